/* What the kernel says of this process: the `process_` families that Prometheus clients have in
 * common (prometheus.io, "Writing client libraries", process metrics). Linux, /proc. */
#ifndef PROCESSOR_CORE_PROCESS_H
#define PROCESSOR_CORE_PROCESS_H

#include "processor/core/base.h"

/* NAN where the kernel doesn't tell. Any thread. */
double st_process_cpu_seconds(void); /* user and system, all threads */
double st_process_resident_bytes(void);
double st_process_virtual_bytes(void);
double st_process_open_fds(void);
double st_process_max_fds(void);       /* INFINITY: no limit */
double st_process_start_seconds(void); /* since the epoch; the same for the process's life */

/* Registers the families, computed at scrape. Main thread. */
void st_process_register(void);

#endif
