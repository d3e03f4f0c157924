/* What tests of worker processes share. */
#ifndef TESTS_SUPPORT_PROCESS_H
#define TESTS_SUPPORT_PROCESS_H

#include "runtimes/process/spawn.h"

/* Lets st_find_part look into the build folder, two folders above the test program. Main thread. */
void st_test_find_parts(void);

/* Options without anything: no limits, no descriptors, an environment of one PATH. */
struct st_spawn_options st_test_spawn_options(const char *const *argv);

/* Waits for the end, at most a minute; false: it still runs. */
bool st_test_wait_ended(const struct st_process *p);

/* Runs it to its end with 1 and 2 as one pipe; what it printed is cut at n. Reads until nobody has
 * the pipe any more, after the process was reaped. False: *err. */
bool st_test_run(const struct st_spawn_options *opt, char *printed, size_t n, char how[128],
                 struct st_error *err);

#endif
