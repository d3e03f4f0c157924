#include "processor/slot.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "processor/core/alloc.h"

enum { MAX_NODES = 1024 };

/* The CPUs of one NUMA node on their way to slots. */
struct node {
    int id; /* -1: of CPUs whose node isn't known */
    unsigned cpus[CPU_SETSIZE];
    unsigned cpu_count;
    unsigned slots; /* that will share cpus */
    unsigned given; /* slots that have got theirs */
};

struct nodes {
    struct node *items;
    unsigned count;
};

static struct node *node_of(struct nodes *nodes, int id)
{
    for (unsigned i = 0; i < nodes->count; i++) {
        if (nodes->items[i].id == id)
            return &nodes->items[i];
    }
    nodes->items = st_realloc(nodes->items, (nodes->count + 1) * sizeof(nodes->items[0]));
    memset(&nodes->items[nodes->count], 0, sizeof(nodes->items[0]));
    nodes->items[nodes->count].id = id;
    return &nodes->items[nodes->count++];
}

static struct nodes group_cpus(const struct st_topology *t)
{
    struct nodes nodes = {NULL, 0};

    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &t->cpus)) {
            struct node *node = node_of(&nodes, t->numa_of_cpu[cpu]);

            node->cpus[node->cpu_count++] = cpu;
        }
    }
    return nodes;
}

void st_cpu_list(const cpu_set_t *cpus, char *text, size_t n)
{
    size_t len = 0;

    text[0] = '\0';
    for (unsigned first = 0; first < CPU_SETSIZE; first++) {
        char range[32];
        unsigned last = first;
        int size;

        if (!CPU_ISSET(first, cpus))
            continue;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, cpus))
            last++;
        size = last > first
                   ? snprintf(range, sizeof(range), "%s%u-%u", len > 0 ? "," : "", first, last)
                   : snprintf(range, sizeof(range), "%s%u", len > 0 ? "," : "", first);
        if (len + (size_t)size + sizeof("...") > n) {
            snprintf(text + len, n - len, "...");
            return;
        }
        memcpy(text + len, range, (size_t)size + 1);
        len += (size_t)size;
        first = last;
    }
}

/* Deals the slots to the nodes in turn, as long as a node has a CPU for each of its slots. */
static void deal_slots(struct nodes *nodes, unsigned slots, bool exclusive)
{
    unsigned next = 0;

    while (slots > 0) {
        struct node *node = &nodes->items[next];

        next = (next + 1) % nodes->count;
        if (exclusive && node->slots >= node->cpu_count)
            continue;
        node->slots++;
        slots--;
    }
}

/* The next slot's CPUs of a node: an even part of its own, or one in turn when slots share. */
static void take_cpus(struct node *node, struct st_slot *slot, bool exclusive)
{
    unsigned index = node->given++;

    CPU_ZERO(&slot->cpus);
    if (!exclusive) {
        CPU_SET(node->cpus[index % node->cpu_count], &slot->cpus);
    } else {
        unsigned from = index * node->cpu_count / node->slots;
        unsigned to = (index + 1) * node->cpu_count / node->slots;

        for (unsigned i = from; i < to; i++)
            CPU_SET(node->cpus[i], &slot->cpus);
    }
    slot->numa_node = node->id;
}

static void pin_slots(struct st_slots *out, struct nodes *nodes, bool exclusive)
{
    unsigned next = 0;

    deal_slots(nodes, out->count, exclusive);
    for (unsigned i = 0; i < out->count; i++) {
        while (nodes->items[next].given == nodes->items[next].slots)
            next = (next + 1) % nodes->count;
        take_cpus(&nodes->items[next], &out->items[i], exclusive);
        out->items[i].pinned = true;
        next = (next + 1) % nodes->count;
    }
}

/* Every slot gets all CPUs; nobody is bound. */
static void share_slots(struct st_slots *out, const struct nodes *nodes)
{
    for (unsigned i = 0; i < out->count; i++) {
        out->items[i].cpus = out->topology.cpus;
        out->items[i].numa_node = nodes->count == 1 ? nodes->items[0].id : -1;
    }
}

int st_slots_plan(struct st_slots *out, const struct st_topology *t, unsigned workers,
                  enum st_pin pin, struct st_error *err)
{
    bool enough = workers > 0 && workers <= t->cpu_count;
    bool throttled = t->cpu_quota > 0 && t->cpu_quota < t->cpu_count;
    struct nodes nodes;

    *out = (struct st_slots){.topology = *t, .count = workers};
    if (t->cpu_count == 0)
        return st_error_set(err, ST_ERR_INVALID, "no CPU to make slots of");
    out->items = st_calloc(workers, sizeof(out->items[0]));
    nodes = group_cpus(t);
    /* A single slot on all CPUs has nothing to be bound to. */
    if (pin == ST_PIN_NEVER || workers <= 1 || (pin == ST_PIN_AUTO && (!enough || throttled))) {
        share_slots(out, &nodes);
        out->exclusive = workers == 1 && !throttled;
    } else {
        pin_slots(out, &nodes, enough);
        out->exclusive = enough;
    }
    for (unsigned i = 0; i < workers; i++) {
        struct st_slot *slot = &out->items[i];

        slot->index = i;
        snprintf(slot->name, sizeof(slot->name), "cpu%u", i);
        st_cpu_list(&slot->cpus, slot->cpu_list, sizeof(slot->cpu_list));
    }
    free(nodes.items);
    return 0;
}

void st_slots_free(struct st_slots *slots)
{
    free(slots->items);
    slots->items = NULL;
    slots->count = 0;
}

/* Memory near the CPUs. A hint: seccomp forbids the call in most containers, then first touch,
 * which is near as well for a pinned thread, has to do. */
static void prefer_node(int node)
{
    unsigned long mask[MAX_NODES / (8 * sizeof(long))] = {0};
    unsigned bits = 8 * sizeof(long);

    if (node < 0 || node >= MAX_NODES)
        return;
    mask[(unsigned)node / bits] = 1ul << ((unsigned)node % bits);
    syscall(SYS_set_mempolicy, MPOL_PREFERRED, mask, (unsigned long)MAX_NODES);
}

int st_slot_bind_thread(const struct st_slot *slot, struct st_error *err)
{
    int rc;

    if (!slot->pinned)
        return 0;
    rc = pthread_setaffinity_np(pthread_self(), sizeof(slot->cpus), &slot->cpus);
    if (rc != 0)
        return st_error_sys(err, rc, "cannot bind slot %s to CPUs %s", slot->name, slot->cpu_list);
    prefer_node(slot->numa_node);
    return 0;
}
