/* Slots: the resource a worker is bound to at its start. Today CPU slots; GPU slots come beside
 * them. */
#ifndef PROCESSOR_SLOT_H
#define PROCESSOR_SLOT_H

#include <sched.h>

#include "processor/config/config.h"
#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/core/metrics.h"

/* What the machine lets this process use. */
struct st_topology {
    cpu_set_t cpus;               /* sched_getaffinity at start */
    unsigned cpu_count;           /* in cpus */
    double cpu_quota;             /* CPUs that the cgroup grants; 0: no quota */
    uint64_t memory_limit;        /* bytes: cgroup's limit or the machine's memory */
    unsigned numa_count;          /* NUMA nodes that hold one of the cpus; at least 1 */
    int numa_of_cpu[CPU_SETSIZE]; /* -1: unknown */
};

struct st_slot {
    unsigned index;
    char name[32];      /* "cpu0" */
    cpu_set_t cpus;     /* where its worker may run */
    bool pinned;        /* the worker is bound to cpus; otherwise they are all of the process */
    int numa_node;      /* -1: none or several */
    char cpu_list[128]; /* "0-3,8", for people */
};

struct st_slots {
    struct st_topology topology;
    struct st_slot *items;
    unsigned count;
    bool exclusive; /* every slot's CPUs are its own */
};

/* Looks at affinity, cgroup v1 or v2, and hwloc. root is "" (tests: a folder with sys/ and proc/).
 */
int st_topology_read(struct st_topology *t, const char *root, struct st_error *err) ST_MUST_CHECK;

/* I/O loops for this topology: the CPU limit rounded up, at most 64, at least 1. */
unsigned st_topology_loops(const struct st_topology *t);

/* One CPU slot a worker. auto: pin when each can have CPUs of its own and no quota is smaller than
 * the CPUs; always: pin round robin; never. */
int st_slots_plan(struct st_slots *out, const struct st_topology *t, unsigned workers,
                  enum st_pin pin, struct st_error *err) ST_MUST_CHECK;
void st_slots_free(struct st_slots *slots);

/* Writes "0-3,8"; the end is "..." where it does not fit. */
void st_cpu_list(const cpu_set_t *cpus, char *text, size_t n);

/* Binds the calling thread as the slot says. */
int st_slot_bind_thread(const struct st_slot *slot, struct st_error *err) ST_MUST_CHECK;

#endif
