/* Topology from fixture folders, the plan of slots, and binding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "processor/slot.h"
#include "tests/support/config_kit.h"

/* ---- topology ---- */

struct file {
    const char *path, *text;
};

/* Files of a machine with version 1 cgroups in a container without a cgroup namespace. */
static const struct file v1[] = {
    {"proc/self/cgroup", "12:cpuset:/\n4:memory:/kube/pod1\n3:cpu,cpuacct:/kube/pod1\n0::/\n"},
    {"proc/self/mountinfo",
     "20 1 0:4 / /proc rw - proc proc rw\n"
     "30 20 0:27 /kube/pod1 /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:9 - cgroup cgroup "
     "rw,cpu,cpuacct\n"
     "31 20 0:28 /kube/pod1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"},
    {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n"},
    {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"},
    {"sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"},
    {"proc/meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB\n"},
    {NULL, NULL},
};

/* The host's view of the same version: limits on several levels, -1 and huge numbers mean none. */
static const struct file v1_host[] = {
    {"proc/self/cgroup", "4:memory:/a/b\n3:cpu:/a/b\n"},
    {"proc/self/mountinfo", "30 20 0:27 / /cg/cpu rw - cgroup cpu rw,cpu\n"
                            "31 20 0:28 / /cg/memory rw shared:5 - cgroup memory rw,memory\n"},
    {"cg/cpu/cpu.cfs_quota_us", "-1\n"},
    {"cg/cpu/cpu.cfs_period_us", "100000\n"},
    {"cg/cpu/a/cpu.cfs_quota_us", "50000\n"},
    {"cg/cpu/a/cpu.cfs_period_us", "100000\n"},
    {"cg/cpu/a/b/cpu.cfs_quota_us", "400000\n"},
    {"cg/cpu/a/b/cpu.cfs_period_us", "100000\n"},
    {"cg/memory/memory.limit_in_bytes", "9223372036854771712\n"},
    {"cg/memory/a/memory.limit_in_bytes", "1000000\n"},
    {"cg/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"},
    {"proc/meminfo", "MemTotal: 2000 kB\n"},
    {NULL, NULL},
};

static const struct file v2[] = {
    {"proc/self/cgroup", "0::/kubepods/pod/c\n"},
    {"proc/self/mountinfo",
     "35 20 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"},
    {"sys/fs/cgroup/kubepods/cpu.max", "400000 100000\n"},
    {"sys/fs/cgroup/kubepods/pod/cpu.max", "250000 100000\n"},
    {"sys/fs/cgroup/kubepods/pod/c/cpu.max", "max 100000\n"},
    {"sys/fs/cgroup/kubepods/memory.max", "max\n"},
    {"sys/fs/cgroup/kubepods/pod/memory.max", "536870912\n"},
    {"sys/fs/cgroup/kubepods/pod/c/memory.max", "max\n"},
    {"proc/meminfo", "MemTotal: 16000000 kB\n"},
    {NULL, NULL},
};

/* A namespace: the group is the root of what is mounted. */
static const struct file v2_namespace[] = {
    {"proc/self/cgroup", "0::/\n"},
    {"proc/self/mountinfo", "35 20 0:30 /../../x /mnt rw - cgroup2 cgroup rw\n"},
    {"mnt/cpu.max", "20000 100000\n"},
    {"mnt/memory.max", "4096\n"},
    {"proc/meminfo", "MemTotal: 16000000 kB\n"},
    {NULL, NULL},
};

static const struct file no_limit[] = {
    {"proc/self/cgroup", "0::/user\n"},
    {"proc/self/mountinfo", "35 20 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"},
    {"proc/meminfo", "MemTotal: 1024 kB\n"},
    {NULL, NULL},
};

static const struct file garbage[] = {
    {"proc/self/cgroup", "\n:\n::\nx\n3:cpu\n0::/g\n"},
    {"proc/self/mountinfo", "\n1\n1 2 3 4 5 6\n1 2 3 / /m rw -\n1 2 3 / /m rw - cgroup2\n"
                            "1 2 3 / /m rw - cgroup2 x\n1 2 3 / /m rw - cgroup2 x y\n"},
    {"m/g/cpu.max", "-5 100000\n"},
    {"m/cpu.max", "100000 0\n"},
    {"m/g/memory.max", "0\n"},
    {"m/memory.max", "lots\n"},
    {"proc/meminfo", "MemTotal: 1024 kB\n"},
    {NULL, NULL},
};

static void test_cgroups(void **state)
{
    static const struct {
        const char *name;
        const struct file *files;
        double quota;
        uint64_t memory;
    } cases[] = {
        {"v1", v1, 1.5, 268435456},
        {"v1_host", v1_host, 0.5, 1000000},
        {"v2", v2, 2.5, 536870912},
        {"v2_namespace", v2_namespace, 0.2, 4096},
        {"no_limit", no_limit, 0, 1024 * 1024},
        {"garbage", garbage, 0, 1024 * 1024},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        char root[256], path[512];
        struct st_topology t;
        struct st_error err;

        for (const struct file *file = cases[i].files; file->path != NULL; file++) {
            snprintf(path, sizeof(path), "%s/%s", cases[i].name, file->path);
            kit_write(path, file->text);
        }
        snprintf(root, sizeof(root), "%s/%s", kit_root, cases[i].name);
        assert_int_equal(st_topology_read(&t, root, &err), 0);
        if (t.cpu_quota != cases[i].quota || t.memory_limit != cases[i].memory)
            fail_msg("%s: %f, %llu", cases[i].name, t.cpu_quota,
                     (unsigned long long)t.memory_limit);
        assert_int_equal(t.numa_count, 1);
        assert_int_equal(t.cpu_count, CPU_COUNT(&t.cpus));
    }
}

/* A folder without anything: what the process may use without any limit. */
static void test_nothing_to_read(void **state)
{
    struct st_topology t;
    struct st_error err;

    (void)state;
    assert_int_equal(st_topology_read(&t, "/nowhere", &err), 0);
    assert_true(t.cpu_quota == 0);
    assert_true(t.memory_limit > 0);
    assert_int_equal(t.numa_count, 1);
}

/* sysfs of a machine whose CPUs belong to two nodes in turn. */
static void write_two_nodes(void)
{
    for (unsigned cpu = 0; cpu < 8; cpu++) {
        char path[128], mask[16];

        snprintf(path, sizeof(path), "two/sys/devices/system/cpu/cpu%u/topology/core_id", cpu);
        snprintf(mask, sizeof(mask), "%u\n", cpu);
        kit_write(path, mask);
        snprintf(path, sizeof(path), "two/sys/devices/system/cpu/cpu%u/topology/thread_siblings",
                 cpu);
        snprintf(mask, sizeof(mask), "%x\n", 1u << cpu);
        kit_write(path, mask);
    }
    kit_write("two/sys/devices/system/cpu/online", "0-7\n");
    kit_write("two/sys/devices/system/node/online", "0-1\n");
    kit_write("two/sys/devices/system/node/node0/cpumap", "55\n");
    kit_write("two/sys/devices/system/node/node1/cpumap", "aa\n");
}

static void test_one_node(void **state)
{
    struct st_topology t;
    struct st_error err;

    (void)state;
    kit_write("one/sys/devices/system/node/node0/cpulist", "0-7\n");
    kit_write("one/sys/devices/system/node/has_cpu", "0\n");
    assert_int_equal(st_topology_read(&t, "one", &err), 0);
    assert_int_equal(t.numa_count, 1);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        assert_int_equal(t.numa_of_cpu[cpu], CPU_ISSET(cpu, &t.cpus) ? 0 : -1);
}

/* hwloc is asked, in the same folder. */
static void test_two_nodes(void **state)
{
    struct st_topology t;
    struct st_error err;
    char root[128];
    unsigned nodes = 0;

    (void)state;
    write_two_nodes();
    snprintf(root, sizeof(root), "%s/two", kit_root);
    setenv("HWLOC_FSROOT", root, 1);
    assert_int_equal(st_topology_read(&t, root, &err), 0);
    unsetenv("HWLOC_FSROOT");
    for (unsigned cpu = 0; cpu < 8; cpu++) {
        if (CPU_ISSET(cpu, &t.cpus)) {
            assert_int_equal(t.numa_of_cpu[cpu], cpu % 2);
            nodes |= 1u << cpu % 2;
        }
    }
    if (nodes != 0) /* 0: a large machine that gave this process others than its first CPUs */
        assert_int_equal(t.numa_count, __builtin_popcount(nodes));
}

static void test_this_machine(void **state)
{
    struct st_topology t;
    struct st_error err;
    cpu_set_t own;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(own), &own), 0);
    assert_int_equal(st_topology_read(&t, "", &err), 0);
    assert_true(CPU_EQUAL(&own, &t.cpus));
    assert_true(t.memory_limit > 0);
}

static void test_loops(void **state)
{
    static const struct {
        unsigned cpus;
        double quota;
        unsigned loops;
    } cases[] = {{1, 0, 1},    {8, 0, 8}, {8, 0.1, 1},   {8, 2, 2},
                 {8, 2.01, 3}, {2, 4, 2}, {1000, 0, 64}, {1000, 500, 64}};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_topology t = {.cpu_count = cases[i].cpus, .cpu_quota = cases[i].quota};

        assert_int_equal(st_topology_loops(&t), cases[i].loops);
    }
}

/* ---- plans ---- */

/* cpus CPUs from 0 on, in nodes of equal size. */
static struct st_topology machine(unsigned cpus, unsigned nodes, double quota)
{
    struct st_topology t = {.cpu_count = cpus, .cpu_quota = quota, .numa_count = nodes};

    CPU_ZERO(&t.cpus);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        t.numa_of_cpu[cpu] = -1;
        if (cpu < cpus) {
            CPU_SET(cpu, &t.cpus);
            t.numa_of_cpu[cpu] = (int)(cpu * nodes / cpus);
        }
    }
    return t;
}

/* The slots as "list@node list@node"; unpinned ones in brackets. */
static void print_plan(const struct st_slots *slots, char *text, size_t n)
{
    size_t len = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < slots->count; i++) {
        const struct st_slot *s = &slots->items[i];

        len += (size_t)snprintf(text + len, n - len, s->pinned ? "%s%s@%d" : "%s(%s)@%d",
                                i > 0 ? " " : "", s->cpu_list, s->numa_node);
    }
}

static void test_plans(void **state)
{
    static const struct {
        unsigned cpus, nodes;
        double quota;
        unsigned workers;
        enum st_pin pin;
        bool exclusive;
        const char *plan;
    } cases[] = {
        {4, 1, 0, 1, ST_PIN_AUTO, true, "(0-3)@0"},
        {4, 1, 0, 2, ST_PIN_AUTO, true, "0-1@0 2-3@0"},
        {4, 1, 0, 3, ST_PIN_AUTO, true, "0@0 1@0 2-3@0"},
        {4, 1, 0, 4, ST_PIN_AUTO, true, "0@0 1@0 2@0 3@0"},
        {4, 1, 0, 5, ST_PIN_AUTO, false, "(0-3)@0 (0-3)@0 (0-3)@0 (0-3)@0 (0-3)@0"},
        {4, 1, 2, 2, ST_PIN_AUTO, false, "(0-3)@0 (0-3)@0"},
        {4, 1, 4, 2, ST_PIN_AUTO, true, "0-1@0 2-3@0"},
        {4, 1, 0, 2, ST_PIN_NEVER, false, "(0-3)@0 (0-3)@0"},
        {4, 1, 2, 2, ST_PIN_ALWAYS, true, "0-1@0 2-3@0"},
        {2, 1, 0, 3, ST_PIN_ALWAYS, false, "0@0 1@0 0@0"},
        {8, 2, 0, 2, ST_PIN_AUTO, true, "0-3@0 4-7@1"},
        {8, 2, 0, 4, ST_PIN_AUTO, true, "0-1@0 4-5@1 2-3@0 6-7@1"},
        {8, 2, 0, 3, ST_PIN_AUTO, true, "0-1@0 4-7@1 2-3@0"},
        {8, 2, 0, 9, ST_PIN_AUTO, false,
         "(0-7)@-1 (0-7)@-1 (0-7)@-1 (0-7)@-1 (0-7)@-1 (0-7)@-1 (0-7)@-1 (0-7)@-1 (0-7)@-1"},
        {4, 2, 0, 5, ST_PIN_ALWAYS, false, "0@0 2@1 1@0 3@1 0@0"},
        {1, 1, 0, 1, ST_PIN_ALWAYS, true, "(0)@0"},
        {4, 1, 0, 0, ST_PIN_AUTO, false, ""},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_topology t = machine(cases[i].cpus, cases[i].nodes, cases[i].quota);
        struct st_slots slots;
        struct st_error err;
        char plan[512];

        assert_int_equal(st_slots_plan(&slots, &t, cases[i].workers, cases[i].pin, &err), 0);
        print_plan(&slots, plan, sizeof(plan));
        if (strcmp(plan, cases[i].plan) != 0 || slots.exclusive != cases[i].exclusive)
            fail_msg("case %zu: %s %d", i, plan, slots.exclusive);
        for (unsigned k = 0; k < slots.count; k++)
            assert_int_equal(slots.items[k].index, k);
        st_slots_free(&slots);
        st_slots_free(&slots);
    }
}

/* Nodes of unequal size: none gets more slots than it has CPUs, and no CPU two slots. */
static void test_uneven_nodes(void **state)
{
    struct st_topology t = machine(6, 1, 0);
    struct st_slots slots;
    struct st_error err;
    cpu_set_t all;
    int sum = 0;

    (void)state;
    t.numa_count = 3;
    t.numa_of_cpu[1] = t.numa_of_cpu[2] = t.numa_of_cpu[3] = t.numa_of_cpu[4] = 7;
    t.numa_of_cpu[5] = -1; /* a CPU whose node isn't known */
    assert_int_equal(st_slots_plan(&slots, &t, 5, ST_PIN_AUTO, &err), 0);
    assert_true(slots.exclusive);
    CPU_ZERO(&all);
    for (unsigned i = 0; i < slots.count; i++) {
        sum += CPU_COUNT(&slots.items[i].cpus);
        CPU_OR(&all, &all, &slots.items[i].cpus);
        for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (CPU_ISSET(cpu, &slots.items[i].cpus))
                assert_int_equal(t.numa_of_cpu[cpu], slots.items[i].numa_node);
        }
    }
    assert_int_equal(sum, 6);
    assert_true(CPU_EQUAL(&all, &t.cpus));
    st_slots_free(&slots);
}

static void test_no_cpu(void **state)
{
    struct st_topology t = machine(1, 1, 0);
    struct st_slots slots;
    struct st_error err;

    (void)state;
    t.cpu_count = 0;
    assert_int_equal(st_slots_plan(&slots, &t, 1, ST_PIN_AUTO, &err), ST_ERR_INVALID);
    assert_string_equal(err.text, "no CPU to make slots of");
    st_slots_free(&slots);
}

static void test_cpu_lists(void **state)
{
    char text[128], small[12];
    cpu_set_t cpus;

    (void)state;
    CPU_ZERO(&cpus);
    st_cpu_list(&cpus, text, sizeof(text));
    assert_string_equal(text, "");
    CPU_SET(0, &cpus);
    CPU_SET(2, &cpus);
    CPU_SET(3, &cpus);
    CPU_SET(CPU_SETSIZE - 1, &cpus);
    st_cpu_list(&cpus, text, sizeof(text));
    assert_string_equal(text, "0,2-3,1023");
    st_cpu_list(&cpus, small, sizeof(small));
    assert_string_equal(small, "0,2-3...");
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu += 2)
        CPU_SET(cpu, &cpus);
    st_cpu_list(&cpus, text, sizeof(text));
    assert_true(strlen(text) < sizeof(text));
    assert_string_equal(text + strlen(text) - 3, "...");
}

/* ---- binding, each on a thread of its own ---- */

struct bind {
    const struct st_slot *slot;
    struct st_error err;
    int rc;
    cpu_set_t cpus;
};

static void *bind_thread(void *arg)
{
    struct bind *b = arg;

    b->rc = st_slot_bind_thread(b->slot, &b->err);
    pthread_getaffinity_np(pthread_self(), sizeof(b->cpus), &b->cpus);
    return NULL;
}

static void bind_to(struct bind *b, const struct st_slot *slot)
{
    pthread_t thread;

    b->slot = slot;
    assert_int_equal(pthread_create(&thread, NULL, bind_thread, b), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_binding(void **state)
{
    struct st_topology t;
    struct st_slots slots;
    struct st_error err;
    struct bind b;

    (void)state;
    assert_int_equal(st_topology_read(&t, "", &err), 0);
    assert_int_equal(st_slots_plan(&slots, &t, t.cpu_count + 1, ST_PIN_ALWAYS, &err), 0);
    for (unsigned i = 0; i < slots.count; i++) {
        bind_to(&b, &slots.items[i]);
        assert_int_equal(b.rc, 0);
        assert_true(CPU_EQUAL(&b.cpus, &slots.items[i].cpus));
    }
    slots.items[0].pinned = false;
    bind_to(&b, &slots.items[0]);
    assert_int_equal(b.rc, 0);
    assert_true(CPU_EQUAL(&b.cpus, &t.cpus));

    slots.items[0].pinned = true;
    CPU_ZERO(&slots.items[0].cpus);
    bind_to(&b, &slots.items[0]);
    assert_int_equal(b.rc, ST_ERR_SYSTEM);
    assert_non_null(strstr(b.err.text, "cannot bind slot cpu0"));
    st_slots_free(&slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cgroups),      cmocka_unit_test(test_nothing_to_read),
        cmocka_unit_test(test_one_node),     cmocka_unit_test(test_two_nodes),
        cmocka_unit_test(test_this_machine), cmocka_unit_test(test_loops),
        cmocka_unit_test(test_plans),        cmocka_unit_test(test_uneven_nodes),
        cmocka_unit_test(test_no_cpu),       cmocka_unit_test(test_cpu_lists),
        cmocka_unit_test(test_binding),
    };

    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
