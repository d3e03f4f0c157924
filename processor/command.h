/* A command of the command line that a kind brings along, beside those of main.c. */
#ifndef PROCESSOR_COMMAND_H
#define PROCESSOR_COMMAND_H

struct st_command {
    const char *name; /* first word */

    /* argv[0] is for help, "stator NAME"; what follows are the words behind the name. Returns the
     * exit status; wrong usage is 2, after one line on stderr that says what to type. */
    int (*run)(int argc, char **argv);
};

#endif
