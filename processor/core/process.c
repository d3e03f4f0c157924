#include "processor/core/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "processor/core/metrics.h"

enum { STAT_START_TIME = 22 }; /* proc(5), /proc/[pid]/stat; field 3 follows the name */

/* False: not readable. */
static bool read_file(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, out, size - 1);
    close(fd);
    if (n <= 0)
        return false;
    out[n] = '\0';
    return true;
}

double st_process_cpu_seconds(void)
{
    struct rusage u;

    if (getrusage(RUSAGE_SELF, &u) != 0)
        return NAN;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* The number at `index` of /proc/self/statm, which counts pages. */
static double statm_bytes(int index)
{
    char text[256], *at = text, *end;
    unsigned long pages = 0;

    if (!read_file("/proc/self/statm", text, sizeof(text)))
        return NAN;
    for (int i = 0; i <= index; i++) {
        pages = strtoul(at, &end, 10);
        if (end == at)
            return NAN;
        at = end;
    }
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

double st_process_virtual_bytes(void)
{
    return statm_bytes(0);
}

double st_process_resident_bytes(void)
{
    return statm_bytes(1);
}

double st_process_open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;
    unsigned long n = 0;

    if (dir == NULL)
        return NAN;
    while ((entry = readdir(dir)) != NULL)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return (double)(n - 1); /* without the one that reads */
}

double st_process_max_fds(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return NAN;
    return limit.rlim_cur == RLIM_INFINITY ? INFINITY : (double)limit.rlim_cur;
}

/* The kernel counts from boot. */
static double start_seconds(void)
{
    struct timespec wall, boot;
    char text[1024], *at, *end;
    unsigned long long ticks;

    if (!read_file("/proc/self/stat", text, sizeof(text)) ||
        (at = strrchr(text, ')')) == NULL) /* the name may hold anything */
        return NAN;
    for (int field = 2; field < STAT_START_TIME && at != NULL; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL)
        return NAN;
    ticks = strtoull(at, &end, 10);
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    return (double)(wall.tv_sec - boot.tv_sec) + 1e-9 * (double)(wall.tv_nsec - boot.tv_nsec) +
           (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static double started;

static void find_start(void)
{
    started = start_seconds();
}

double st_process_start_seconds(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, find_start); /* the wall clock may be set later */
    return started;
}

/* ---- metrics ---- */

#define METRIC(name)                       \
    static double metric_##name(void *arg) \
    {                                      \
        (void)arg;                         \
        return st_process_##name();        \
    }

METRIC(cpu_seconds)
METRIC(resident_bytes)
METRIC(virtual_bytes)
METRIC(open_fds)
METRIC(max_fds)
METRIC(start_seconds)

void st_process_register(void)
{
    st_process_start_seconds();
    st_metric_register_fn(ST_METRIC_PROCESS_CPU, NULL, metric_cpu_seconds, NULL);
    st_metric_register_fn(ST_METRIC_PROCESS_RESIDENT, NULL, metric_resident_bytes, NULL);
    st_metric_register_fn(ST_METRIC_PROCESS_VIRTUAL, NULL, metric_virtual_bytes, NULL);
    st_metric_register_fn(ST_METRIC_PROCESS_OPEN_FDS, NULL, metric_open_fds, NULL);
    st_metric_register_fn(ST_METRIC_PROCESS_MAX_FDS, NULL, metric_max_fds, NULL);
    st_metric_register_fn(ST_METRIC_PROCESS_START, NULL, metric_start_seconds, NULL);
}
