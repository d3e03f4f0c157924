#include "tests/unit/test_core.h"

#include <fcntl.h>
#include <math.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "processor/core/metrics.h"
#include "processor/core/process.h"

static void test_cpu(void **state)
{
    double before = st_process_cpu_seconds(), clock_before = (double)clock() / CLOCKS_PER_SEC;
    volatile unsigned spin = 0;

    (void)state;
    while ((double)clock() / CLOCKS_PER_SEC < clock_before + 0.05)
        spin++;
    assert_true(st_process_cpu_seconds() >= before + 0.03);
}

static void test_memory(void **state)
{
    enum { SIZE = 32 << 20 };
    double resident = st_process_resident_bytes(), virtual_ = st_process_virtual_bytes();
    char *block = malloc(SIZE);

    (void)state;
    assert_non_null(block);
    memset(block, 1, SIZE);
    assert_true(resident > 0 && virtual_ >= resident);
    assert_true(st_process_virtual_bytes() >= st_process_resident_bytes());
    assert_true(st_process_resident_bytes() >= resident + 0.5 * SIZE);
    free(block);
}

static void test_descriptors(void **state)
{
    double before = st_process_open_fds();
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct rlimit limit;

    (void)state;
    assert_true(before >= 3 && fd >= 0);
    assert_true(st_process_open_fds() == before + 1);
    close(fd);
    assert_true(st_process_open_fds() == before);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 77;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(st_process_max_fds() == 77);
}

static void test_start(void **state)
{
    double start = st_process_start_seconds(), now = (double)time(NULL);

    (void)state;
    assert_true(start > now - 100 && start < now + 2);
    assert_true(st_process_start_seconds() == start);
}

static void test_families(void **state)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    st_process_register();
    st_metrics_write(out);
    fclose(out);
    assert_non_null(strstr(text, "# TYPE process_cpu_seconds_total counter\n"));
    assert_non_null(strstr(text, "# TYPE process_open_fds gauge\nprocess_open_fds "));
    assert_null(strstr(text, "NaN"));
    free(text);
    st_metrics_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu),         cmocka_unit_test(test_memory),
        cmocka_unit_test(test_descriptors), cmocka_unit_test(test_start),
        cmocka_unit_test(test_families),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
