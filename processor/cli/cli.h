/* Commands of the command line that have a file of their own. argv[0] is the command's name; the
 * result is the exit status. */
#ifndef PROCESSOR_CLI_CLI_H
#define PROCESSOR_CLI_CLI_H

/* What to type, and a line for the list of commands. */
#define ST_CLI_INVOKE_SYNOPSIS                                                              \
    "invoke [--url URL | --port N] [-X METHOD] [-H NAME:VALUE] [-d DATA|@FILE|-] [--logs] " \
    "[--timeout 10s] [--retry N] [--json]"
#define ST_CLI_HEALTH_SYNOPSIS "health [--port N | --platform-config FILE] [--timeout 5s]"

/* Sends a request to a function: 0 for 2xx, 1 for another status, 3 for no connection or no whole
 * answer. */
int st_cli_invoke(int argc, char **argv);

/* Asks a processor on this machine: 0 when it is ready, otherwise 1. */
int st_cli_health(int argc, char **argv);

#endif
