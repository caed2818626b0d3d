"""A virtualenv for system packages, without root.

From the bottom to the top, and depending on each other in that order only:

    kernel      system calls, namespaces, id maps, mounts, the seccomp filter; knows of no environment
    upper       an environment's changes: where they lie, how they are read and merged
    host        what the host is and how an environment sees it: reads and plans, writes nothing
    lower       the base layers: what environments have of the host below their changes
    packages    the databases of package managers, and what an environment's differ in
    snapshots   frozen changes: snapshot, history, rollback, clone
    home        programs of an environment as commands of its user's: which, link, unlink
    diff        what an environment changed
    rebase      moves an environment onto today's host
    archive     export and import;  oci: images
    manifest    freeze and sync;  to_host: apply
    commands    the commands of the command line, a module for each family of verbs; cli.py puts them together

Beside them: store, session, lifecycle and the other modules that all of these share.
"""

__version__ = "0.1.0"
