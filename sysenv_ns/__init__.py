"""A virtualenv for system packages, without root.

From the bottom to the top, and depending on each other in that order only:

    kernel      system calls, namespaces, id maps, mounts, the seccomp filter
    files       files and trees of any origin: read, copied, merged, replaced, deleted
    host        what the host is and how an environment sees it: reads and plans, writes nothing
    environment the store and its contents: names, locks, transactions, frozen changes, what runs; mounts nothing
    lower       the base layers: the mirror of the host below the changes of environments
    mapped      what root makes for a user: mounts of the host's programs, a launcher for AppArmor; and the way to root
    drivers     how an environment gets the host's files, a module each; choose.py finds which of them work
    packages    the databases of package managers, and how an environment's differ from the host's
    home        programs of an environment as commands of its user: which, link, unlink
    inside      what a session does in its environment between the pivot and its command
    host_commands   commands of the host for who is inside: asked for there, run by a process outside
    diff        what an environment changed
    rebase      updates an environment to today's host
    archive     export and import;  oci: images;  registry: push and pull
    units       services of environments, from outside; within: the part that runs inside and carries out orders
    manifest    freeze and sync;  apply: makes changes to the host itself
    verbs       the command line, a file for each verb: its options, the call, the text of its result; cli.py is the
                group of them, and handles errors; only console.py prints and asks

Kernel, files and host know no environments. Beside them, shared by all: quick (plain calls of exec and shell, which
need no verb), quick_verbs (of some other verbs), session (start, join), supervised (what a session's supervisor is
told), libraries (finds other projects' modules, which a start leaves out), command (who runs it, with which variables,
and becoming it), prompt, root_files (what a command of root leaves in the home), livefiles (files of the host's /etc
that are kept up to date), status (the present state of an environment), listing (its lines), creation (makes
environments), lifecycle (deletes them), launcher (the start by way of a file that AppArmor lets have namespaces),
memory (changes of a throwaway one), completion (of shells), sudo, text (made safe for a terminal), records, paths and
basics (what a start needs of dataclasses, pathlib, contextlib and others, at next to no cost), decoding (values from
JSON, by their types), reporter, notices, errors, failures (their end).
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # what typing has for type checkers; a start does not import that
