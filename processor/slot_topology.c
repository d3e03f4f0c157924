/* What the machine and its cgroup let this process use: CPUs, quota, memory, NUMA nodes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hwloc.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "processor/slot.h"

enum {
    MAX_LOOPS = 64,
    FILE_SIZE = 64 * 1024, /* mountinfo of a host with many containers */
    MASK_BYTES = 4096      /* of an affinity mask: 32,768 CPUs */
};

/* A file below root, cut at n - 1 bytes; NULL when it can't be read. */
static char *read_file(const char *root, const char *path, char *text, size_t n)
{
    char name[PATH_MAX];
    size_t len = 0;
    int fd;

    if ((size_t)snprintf(name, sizeof(name), "%s%s", root, path) >= sizeof(name))
        return NULL;
    fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    while (len < n - 1) {
        ssize_t got = read(fd, text + len, n - 1 - len);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        len += (size_t)got;
    }
    close(fd);
    text[len] = '\0';
    return text;
}

/* ---- CPUs ---- */

/* The kernel refuses a mask that is smaller than its own: cpu_set_t isn't enough everywhere. */
static int read_affinity(struct st_topology *t, struct st_error *err)
{
    static _Thread_local unsigned long mask[MASK_BYTES / sizeof(long)];
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof(mask), mask);

    CPU_ZERO(&t->cpus);
    if (bytes < 0)
        return st_error_sys(err, errno, "cannot read which CPUs this process may use");
    if ((size_t)bytes > sizeof(t->cpus))
        bytes = sizeof(t->cpus);
    memcpy(&t->cpus, mask, (size_t)bytes);
    t->cpu_count = (unsigned)CPU_COUNT(&t->cpus);
    if (t->cpu_count == 0)
        return st_error_set(err, ST_ERR_SYSTEM, "none of the CPUs below %d may be used",
                            CPU_SETSIZE);
    return 0;
}

/* ---- cgroups ---- */

/* One hierarchy: where it is mounted, and the process's group in it. */
struct cgroup {
    char mount[512]; /* "" : there is none */
    char group[512]; /* "" or "/a/b", below the mount */
};

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);

    for (; *list != '\0'; list += *list == ',') {
        size_t n = strcspn(list, ",");

        if (n == len && memcmp(list, word, len) == 0)
            return true;
        list += n;
    }
    return false;
}

/* The group's path by /proc/self/cgroup (cgroups(7)): "5:cpu,cpuacct:/a/b", v2 "0::/a/b". */
static bool group_of(const char *groups, const char *controller, char *out, size_t n)
{
    while (*groups != '\0') {
        size_t len = strcspn(groups, "\n");
        char line[1024], *list, *path;

        snprintf(line, sizeof(line), "%.*s", (int)(len < 1000 ? len : 1000), groups);
        groups += len + (groups[len] == '\n');
        list = strchr(line, ':');
        path = list != NULL ? strchr(list + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        list++;
        if (controller == NULL ? *list != '\0' : !has_word(list, controller))
            continue;
        return (size_t)snprintf(out, n, "%s", strcmp(path, "/") == 0 ? "" : path) < n;
    }
    return false;
}

/* A line of /proc/self/mountinfo (proc(5)) that mounts the hierarchy. *prefix: its root in it. */
static bool mount_line(char *line, const char *controller, struct cgroup *cg, char **prefix)
{
    char *fields[6], *type, *options;

    for (int i = 0; i < 6; i++) {
        fields[i] = line;
        line = strchr(line, ' ');
        if (line == NULL)
            return false;
        *line++ = '\0';
    }
    line = strncmp(line, "- ", 2) == 0 ? line : strstr(line, " - ");
    if (line == NULL)
        return false;
    type = line + (*line == '-' ? 2 : 3);
    options = strchr(type, ' ');
    if (options == NULL)
        return false;
    *options++ = '\0';
    options = strchr(options, ' ');
    if (options == NULL)
        return false;
    options++;
    if (controller == NULL ? strcmp(type, "cgroup2") != 0
                           : strcmp(type, "cgroup") != 0 || !has_word(options, controller))
        return false;
    snprintf(cg->mount, sizeof(cg->mount), "%s", fields[4]);
    *prefix = fields[3];
    return true;
}

/* Makes cg->group relative to the mount. In a container without a cgroup namespace the mount shows
 * only the container's part; a group outside of what is mounted means the mount itself. */
static void make_relative(struct cgroup *cg, const char *prefix)
{
    size_t len = strcmp(prefix, "/") == 0 ? 0 : strlen(prefix);

    if (strncmp(cg->group, prefix, len) == 0 && (cg->group[len] == '/' || cg->group[len] == '\0'))
        memmove(cg->group, cg->group + len, strlen(cg->group + len) + 1);
    else
        cg->group[0] = '\0';
}

/* The hierarchy of a controller, or with NULL that of version 2. */
static bool find_cgroup(const char *root, const char *controller, struct cgroup *cg)
{
    char *groups = malloc(FILE_SIZE), *mounts = malloc(FILE_SIZE), *line, *rest, *prefix;
    bool found = false;

    *cg = (struct cgroup){.mount = ""};
    if (groups == NULL || mounts == NULL ||
        read_file(root, "/proc/self/cgroup", groups, FILE_SIZE) == NULL ||
        read_file(root, "/proc/self/mountinfo", mounts, FILE_SIZE) == NULL ||
        !group_of(groups, controller, cg->group, sizeof(cg->group)))
        goto out;
    rest = mounts;
    while (!found && (line = strsep(&rest, "\n")) != NULL)
        found = mount_line(line, controller, cg, &prefix);
    if (found)
        make_relative(cg, prefix);
out:
    free(groups);
    free(mounts);
    return found;
}

/* A file of one group of a hierarchy. */
static char *read_level(const char *root, const struct cgroup *cg, const char *file, char *text,
                        size_t n)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s%s/%s", cg->mount, cg->group, file);
    return read_file(root, path, text, n);
}

/* To the group above; false when there is none below the mount. */
static bool go_up(struct cgroup *cg)
{
    char *slash = strrchr(cg->group, '/');

    if (slash == NULL)
        return false;
    *slash = '\0';
    return true;
}

/* A whole number at the front of *text, which moves on; 0 when there is none above 0 ("max", "-1").
 */
static uint64_t take_number(const char **text)
{
    unsigned long long value;
    char *end;

    while (**text == ' ')
        (*text)++;
    if (**text < '0' || **text > '9')
        return 0;
    errno = 0;
    value = strtoull(*text, &end, 10);
    *text = end;
    return errno == 0 ? value : 0;
}

static uint64_t level_number(const char *root, const struct cgroup *cg, const char *file)
{
    char text[128];
    const char *at = read_level(root, cg, file, text, sizeof(text));

    return at != NULL ? take_number(&at) : 0;
}

static void lower_quota(double *quota, uint64_t us, uint64_t period)
{
    double cpus = period > 0 ? (double)us / (double)period : 0;

    if (cpus > 0 && (*quota == 0 || cpus < *quota))
        *quota = cpus;
}

/* cpu.max of version 2: "200000 100000", or "max 100000". */
static void read_quota_v2(const char *root, struct cgroup cg, double *quota)
{
    char text[128];

    do {
        const char *at = read_level(root, &cg, "cpu.max", text, sizeof(text));

        if (at != NULL) {
            uint64_t us = take_number(&at);

            lower_quota(quota, us, take_number(&at));
        }
    } while (go_up(&cg));
}

/* Version 1 keeps quota (-1: none) and period in two files. */
static void read_quota_v1(const char *root, struct cgroup cg, double *quota)
{
    do {
        lower_quota(quota, level_number(root, &cg, "cpu.cfs_quota_us"),
                    level_number(root, &cg, "cpu.cfs_period_us"));
    } while (go_up(&cg));
}

/* memory.max ("max": none) or memory.limit_in_bytes (a huge number: none). */
static void read_memory(const char *root, struct cgroup cg, const char *file, uint64_t *limit)
{
    do {
        uint64_t bytes = level_number(root, &cg, file);

        if (bytes > 0 && bytes < *limit)
            *limit = bytes;
    } while (go_up(&cg));
}

/* Either version, also both at once (a hybrid host has its controllers in version 1). */
static void read_cgroups(struct st_topology *t, const char *root)
{
    struct cgroup cg;

    if (find_cgroup(root, NULL, &cg)) {
        read_quota_v2(root, cg, &t->cpu_quota);
        read_memory(root, cg, "memory.max", &t->memory_limit);
    }
    if (find_cgroup(root, "cpu", &cg))
        read_quota_v1(root, cg, &t->cpu_quota);
    if (find_cgroup(root, "memory", &cg))
        read_memory(root, cg, "memory.limit_in_bytes", &t->memory_limit);
}

static uint64_t machine_memory(const char *root)
{
    static const char key[] = "MemTotal:";
    char text[1024];
    const char *line = NULL;
    uint64_t kib = 0;

    if (read_file(root, "/proc/meminfo", text, sizeof(text)) != NULL)
        line = strstr(text, key);
    if (line != NULL) {
        line += sizeof(key) - 1;
        kib = take_number(&line);
    }
    if (kib > 0)
        return kib * 1024;
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- NUMA ---- */

/* Folders nodeN below /sys/devices/system/node; 0 when the kernel shows none. */
static unsigned count_nodes(const char *root)
{
    char name[PATH_MAX];
    struct dirent *entry;
    unsigned count = 0;
    DIR *dir;

    if ((size_t)snprintf(name, sizeof(name), "%s/sys/devices/system/node", root) >= sizeof(name))
        return 0;
    dir = opendir(name);
    if (dir == NULL)
        return 0;
    while ((entry = readdir(dir)) != NULL)
        count += strncmp(entry->d_name, "node", 4) == 0 && entry->d_name[4] >= '0' &&
                 entry->d_name[4] <= '9';
    closedir(dir);
    return count;
}

/* hwloc without what costs time: no devices, caches or cores, only CPUs and NUMA nodes. Groups
 * stay: a node has the CPUs of the object that it hangs on, without a group of its own the
 * machine's. */
static hwloc_topology_t load_hwloc(void)
{
    hwloc_topology_t topology;

    if (hwloc_topology_init(&topology) != 0)
        return NULL;
    hwloc_topology_set_all_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_type_filter(topology, HWLOC_OBJ_GROUP, HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
    hwloc_topology_set_flags(
        topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED | HWLOC_TOPOLOGY_FLAG_NO_DISTANCES |
                      HWLOC_TOPOLOGY_FLAG_NO_MEMATTRS | HWLOC_TOPOLOGY_FLAG_NO_CPUKINDS);
    /* It would run on every CPU in turn, to ask for what the kernel has told already. */
    hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
    if (hwloc_topology_load(topology) != 0) {
        hwloc_topology_destroy(topology);
        return NULL;
    }
    return topology;
}

static void read_nodes_hwloc(struct st_topology *t)
{
    hwloc_topology_t topology = load_hwloc();
    hwloc_obj_t node = NULL;

    t->numa_count = 0;
    while (topology != NULL &&
           (node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != NULL) {
        bool used = false;

        for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &t->cpus) || !hwloc_bitmap_isset(node->cpuset, cpu))
                continue;
            t->numa_of_cpu[cpu] = (int)node->os_index;
            used = true;
        }
        t->numa_count += used;
    }
    if (topology != NULL)
        hwloc_topology_destroy(topology);
}

/* Most machines have one node, and hwloc's start is a good part of ours: ask it only for several.
 */
static void read_nodes(struct st_topology *t, const char *root)
{
    unsigned nodes = count_nodes(root);

    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        t->numa_of_cpu[cpu] = -1;
    if (nodes == 1) {
        for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (CPU_ISSET(cpu, &t->cpus))
                t->numa_of_cpu[cpu] = 0;
        }
    } else if (nodes > 1) {
        read_nodes_hwloc(t);
    }
    if (t->numa_count == 0)
        t->numa_count = 1;
}

int st_topology_read(struct st_topology *t, const char *root, struct st_error *err)
{
    int rc;

    memset(t, 0, sizeof(*t));
    rc = read_affinity(t, err);
    if (rc != 0)
        return rc;
    t->memory_limit = machine_memory(root);
    read_cgroups(t, root);
    read_nodes(t, root);
    return 0;
}

unsigned st_topology_loops(const struct st_topology *t)
{
    double cpus = t->cpu_count;

    if (t->cpu_quota > 0 && t->cpu_quota < cpus)
        cpus = ceil(t->cpu_quota);
    if (cpus < 1)
        return 1;
    return cpus > MAX_LOOPS ? MAX_LOOPS : (unsigned)cpus;
}
