"""What carries out orders for services, run inside by the environment's own python3; the tool imports none of it.

    systemctl, service, journalctl   the programs that the stand-ins on PATH call: they read options, print and exit
    questions   what systemctl is asked;  reports: status and show;  tables: list-units, list-timers, list-sockets
    orders      starts and stops units with what they need, in order;  requirements: what must be so before
    postgresql  makes the cluster that the host's user postgres keeps to itself
    service_unit, timer_unit, socket_unit   a process for each running unit: starts, watches, restarts and ends it
    command_supervisor  one that runs commands and waits for processes, as that of a service
    supervisor  what all of them have in common;  events: what happens to one;  detached: why it is nobody's child
    schedule, calendar_event   when a timer elapses;  addresses: what a socket listens on;  outcomes: what ends mean
    execution   the commands of a unit;  identities, variables, directories: as whom, with which variables, where
    passing     how a service gets what its socket listens on
    syntax      the words of a setting;  advice: what to do about what did not start
    processes   what is known of processes by their numbers
    states      what is known of units that have been started, in /run;  logs: what they have said, in /var/log
    units       unit files

It is copied to /usr/lib/sysenv-ns/python (host/services.py). Only the standard library, of Python 3.9 or later.
"""
