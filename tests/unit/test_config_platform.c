/* platform.yaml: listeners, log and metrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "processor/config/name_template.h"
#include "processor/core/log.h"
#include "tests/support/config_kit.h"

/* Loads a platform file beside a function's. */
static int load(struct st_config *c, const char *platform, const char *function, char **told)
{
    struct st_config_args args = {.config = "f.yaml", .platform_config = "p.yaml"};

    kit_write("f.yaml", function);
    kit_write("p.yaml", platform);
    return kit_load(c, &args, told);
}

static const char plain[] = "spec: {runtime: native}\n";

/* What a platform file says of pushes. */
static void load_metrics(struct st_config *c, const char *metrics)
{
    char *told;

    assert_int_equal(load(c, metrics, plain, &told), 0);
    assert_string_equal(told, "");
    free(told);
}

static void test_push_sinks(void **state)
{
    struct st_config c;

    (void)state;
    load_metrics(&c, "metrics: {sinks: {p: {kind: prometheusPush, url: 'http://a:1'}}}\n");
    assert_int_equal(c.platform.push_count, 1);
    assert_string_equal(c.platform.pushes[0].name, "p");
    assert_string_equal(c.platform.pushes[0].url, "http://a:1");
    assert_string_equal(c.platform.pushes[0].job, "{{ .Name }}");
    assert_int_equal(c.platform.pushes[0].interval_ns, 10 * ST_SEC);
    assert_true(c.platform.metrics.enabled); /* on by default, with :8090 */
    assert_string_equal(c.platform.metrics.listen_address, ":8090");
    assert_string_equal(c.platform.metric_instance, "");
    st_config_free(&c);
}

static void test_chosen_push_sinks(void **state)
{
    struct st_config c;

    (void)state;
    load_metrics(&c, "metrics:\n"
                     "  sinks:\n"
                     "    a: {kind: prometheusPush, url: 'http://a', enabled: false}\n"
                     "    b: {kind: prometheusPush, url: 'http://b', attributes: {interval: 1m,\n"
                     "        jobName: j, instanceName: i}}\n"
                     "    c: {kind: prometheusPush, url: 'http://c'}\n"
                     "    d: {kind: prometheusPull}\n"
                     "    e: {kind: prometheusPush, url: 'http://e'}\n"
                     "  functions: [a, b, e]\n");
    assert_int_equal(c.platform.push_count, 2);
    assert_string_equal(c.platform.pushes[0].name, "b");
    assert_string_equal(c.platform.pushes[0].job, "j");
    assert_int_equal(c.platform.pushes[0].interval_ns, 60 * ST_SEC);
    assert_string_equal(c.platform.pushes[1].name, "e");
    assert_string_equal(c.platform.metric_instance, "i");
    assert_false(c.platform.metrics.enabled);
    st_config_free(&c);
}

static void test_name_templates(void **state)
{
    static const char *const bad[] = {"{{", "{{ }}", "{{.name}}", "a {{ .Name }} {{ .Pod }}"};
    char out[16];

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(bad); i++)
        assert_false(st_name_template_ok(bad[i]));
    assert_true(st_name_template_ok("}} {{.Name}}{{  .Namespace  }} {"));
    st_name_template_expand("<{{.Namespace}}-{{ .Name }}>", "n", "s", out, sizeof out);
    assert_string_equal(out, "<s-n>");
    st_name_template_expand("", "n", "s", out, sizeof out);
    assert_string_equal(out, "");
    st_name_template_expand("{{.Name}}{{.Name}}x", "0123456789", "s", out, sizeof out);
    assert_string_equal(out, "012345678901234");
    st_name_template_expand("0123456789abcdefgh{{.Name}}", "n", "s", out, sizeof out);
    assert_string_equal(out, "0123456789abcde");
}

static void test_without_file(void **state)
{
    struct st_config_args args = {.config = "f.yaml"};
    struct st_config c;
    char *told;

    (void)state;
    kit_write("f.yaml", plain);
    assert_int_equal(kit_load(&c, &args, &told), 0);
    assert_string_equal(told, "");
    assert_true(c.platform.web_admin.enabled && c.platform.health.enabled &&
                c.platform.metrics.enabled);
    assert_false(c.platform.web_admin.configured || c.platform.health.configured ||
                 c.platform.metrics.configured);
    assert_string_equal(c.platform.web_admin.listen_address, "127.0.0.1:8081");
    assert_string_equal(c.platform.health.listen_address, ":8082");
    assert_string_equal(c.platform.metrics.listen_address, ":8090");
    assert_int_equal(c.platform.log_system.level, ST_LOG_DEBUG);
    assert_int_equal(c.platform.log_system.style.encoding, ST_LOG_CONSOLE);
    free(told);
    st_config_free(&c);
}

static void test_full(void **state)
{
    struct st_config c;
    char *told;

    (void)state;
    assert_int_equal(load(&c,
                          "kind: kube\n"
                          "cronTriggerCreationMode: kube\n"
                          "webAdmin: {enabled: no, listenAddress: 0.0.0.0:1}\n"
                          "healthCheck: {enabled: on, listenAddress: 'unix:/run/h'}\n"
                          "logger:\n"
                          "  sinks:\n"
                          "    elsewhere: {kind: appinsights, url: x}\n"
                          "    out: {kind: stdout, attributes: {encoding: json}}\n"
                          "  system:\n"
                          "  - {level: error, sink: elsewhere}\n"
                          "  - {level: warning, sink: out}\n"
                          "  functions:\n"
                          "  - {level: info, sink: out}\n"
                          "metrics:\n"
                          "  sinks:\n"
                          "    pull: {kind: prometheusPull, url: '[::1]:2'}\n"
                          "    push: {kind: prometheusPush, url: x, attributes: {interval: 10s}}\n"
                          "  system: [push]\n"
                          "  functions: [pull]\n",
                          plain, &told),
                     0);
    assert_string_equal(told, "p.yaml:7:23: warning: logger.sinks.elsewhere.kind: \"appinsights\" "
                              "is not supported by this build yet; the log goes to stdout\n");
    assert_false(c.platform.web_admin.enabled);
    assert_true(c.platform.web_admin.configured && c.platform.health.configured &&
                c.platform.metrics.configured);
    assert_string_equal(c.platform.web_admin.listen_address, "0.0.0.0:1");
    assert_true(c.platform.health.enabled);
    assert_string_equal(c.platform.health.listen_address, "unix:/run/h");
    assert_true(c.platform.metrics.enabled);
    assert_string_equal(c.platform.metrics.listen_address, "[::1]:2");
    assert_int_equal(c.platform.log_system.level, ST_LOG_WARN);
    assert_int_equal(c.platform.log_system.style.encoding, ST_LOG_JSON);
    free(told);
    st_config_free(&c);
}

static void test_metrics(void **state)
{
    static const struct {
        const char *yaml, *address; /* address NULL: off */
    } cases[] = {
        {"kind: local\n", ":8090"},
        {"metrics: {sinks: {p: {kind: prometheusPull}}}\n", ":8090"},
        {"metrics: {sinks: {p: {kind: prometheusPull, url: ':7'}}}\n", ":7"},
        {"metrics: {sinks: {p: {kind: prometheusPull, enabled: false}}, functions: [p]}\n", NULL},
        {"metrics: {sinks: {p: {kind: prometheusPull}}, functions: []}\n", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_config c;
        char *told;

        assert_int_equal(load(&c, cases[i].yaml, plain, &told), 0);
        assert_string_equal(told, "");
        assert_int_equal(c.platform.metrics.enabled, cases[i].address != NULL);
        if (cases[i].address != NULL)
            assert_string_equal(c.platform.metrics.listen_address, cases[i].address);
        free(told);
        st_config_free(&c);
    }
}

/* The processor's own log and that of functions; spec.loggerSinks beats the platform for the
 * latter. */
static void test_levels(void **state)
{
    static const struct {
        const char *platform, *function;
        int system, functions;
    } cases[] = {
        {"{kind: local}", "", ST_LOG_DEBUG, ST_LOG_DEBUG},
        {"{logger: {system: [{level: error, sink: stdout}]}}", "", ST_LOG_ERROR, ST_LOG_ERROR},
        {"{logger: {functions: [{level: warn, sink: stdout}]}}", "", ST_LOG_WARN, ST_LOG_WARN},
        {"{logger: {system: [{level: error, sink: stdout}], functions: [{sink: stdout}]}}", "",
         ST_LOG_ERROR, ST_LOG_DEBUG},
        {"{logger: {system: [{sink: stdout}]}}", "", ST_LOG_DEBUG, ST_LOG_DEBUG},
        {"{logger: {system: [{level: error, sink: stdout}]}}", ", loggerSinks: [{level: info}]",
         ST_LOG_ERROR, ST_LOG_INFO},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_config c;
        char function[128], *told;

        snprintf(function, sizeof(function), "spec: {runtime: native%s}\n", cases[i].function);
        assert_int_equal(load(&c, cases[i].platform, function, &told), 0);
        assert_string_equal(told, "");
        assert_int_equal(c.platform.log_system.level, cases[i].system);
        assert_int_equal(c.platform.log_functions.level, cases[i].functions);
        free(told);
        st_config_free(&c);
    }
}

/* A function may choose another one of the platform's sinks. */
static void test_log_sinks_of_functions(void **state)
{
    static const char platform[] =
        "logger:\n"
        "  sinks:\n"
        "    a: {kind: stdout, attributes: {encoding: json, timeFieldName: a}}\n"
        "    b: {kind: stdout, attributes: {encoding: json, timeFieldName: b}}\n"
        "    c: {kind: appinsights}\n"
        "  system: [{level: error, sink: a}]\n";
    static const struct {
        const char *sinks, *time_name, *told;
        enum st_log_level level;
    } cases[] = {
        {"[{level: info}]", "a", "", ST_LOG_INFO},
        {"[{level: warn, sink: b}]", "b", "", ST_LOG_WARN},
        {"[{sink: b}, {level: error, sink: a}]", "b", "", ST_LOG_DEBUG},
        {"[{level: warn, sink: c}]", "a", "", ST_LOG_ERROR},
        {"[{level: info, sink: c}, {level: warn, sink: b}]", "b", "", ST_LOG_WARN},
        {"[{sink: b}, {sink: d}]", NULL,
         "f.yaml:1:57: spec.loggerSinks[1].sink: found \"d\", expected a name of the platform's "
         "logger.sinks, for example \"a\"\n",
         ST_LOG_DEBUG},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_config c;
        char function[128], *told, *own;
        int rc;

        snprintf(function, sizeof(function), "spec: {runtime: native, loggerSinks: %s}\n",
                 cases[i].sinks);
        rc = load(&c, platform, function, &told);
        own = strchr(told, '\n') + 1; /* behind the warning about c */
        assert_string_equal(own, cases[i].told);
        assert_int_equal(rc != 0, cases[i].time_name == NULL);
        if (rc == 0) {
            assert_int_equal(c.platform.log_functions.level, cases[i].level);
            assert_string_equal(c.platform.log_functions.style.time_name, cases[i].time_name);
            assert_string_equal(c.platform.log_system.style.time_name, "a");
        }
        free(told);
        st_config_free(&c);
    }
}

/* The only one that there is without a platform file; by itself a function may name any. */
static void test_log_sinks_without_platform(void **state)
{
    struct st_config_args args = {.config = "f.yaml"};
    struct st_config c;
    char *told;

    (void)state;
    kit_write("f.yaml", "spec: {runtime: native, loggerSinks: [{level: warn, sink: stdout}]}\n");
    assert_int_equal(kit_load(&c, &args, &told), 0);
    assert_int_equal(c.platform.log_functions.level, ST_LOG_WARN);
    free(told);
    st_config_free(&c);
    kit_write("f.yaml", "spec: {runtime: native, loggerSinks: [{sink: other}]}\n");
    assert_int_not_equal(kit_load(&c, &args, &told), 0);
    assert_string_equal(told, "f.yaml:1:46: spec.loggerSinks[0].sink: found \"other\", expected a "
                              "name of the platform's logger.sinks, for example \"stdout\"\n");
    free(told);
    st_config_free(&c);
}

static void test_log_styles(void **state)
{
    struct st_config c;
    char *told;

    (void)state;
    assert_int_equal(
        load(&c,
             "logger:\n"
             "  sinks:\n"
             "    a: {kind: stdout, attributes: {encoding: json}}\n"
             "    b: {kind: stdout, attributes: {encoding: json, timeFieldName: at,\n"
             "        timeFieldEncoding: iso8601, varGroupName: more, varGroupMode: flattened}}\n"
             "  system: [{sink: a}]\n"
             "  functions: [{sink: b}]\n",
             plain, &told),
        0);
    assert_string_equal(told, "");
    assert_int_equal(c.platform.log_system.style.time, ST_LOG_EPOCH_MILLIS);
    assert_string_equal(c.platform.log_system.style.time_name, "time");
    assert_string_equal(c.platform.log_system.style.group_name, "");
    assert_false(c.platform.log_system.style.flattened);
    assert_int_equal(c.platform.log_functions.style.encoding, ST_LOG_JSON);
    assert_int_equal(c.platform.log_functions.style.time, ST_LOG_ISO8601);
    assert_string_equal(c.platform.log_functions.style.time_name, "at");
    assert_string_equal(c.platform.log_functions.style.group_name, "more");
    assert_true(c.platform.log_functions.style.flattened);
    free(told);
    st_config_free(&c);
}

static void test_faults(void **state)
{
    static const struct {
        const char *yaml, *told;
        bool refused;
    } cases[] = {
        {"5\n",
         "p.yaml:1:1: found text, expected an object, for example {webAdmin: {enabled: "
         "true}}\n",
         true},
        {"webAdmin: {listenAddress: 8081}\n",
         "p.yaml:1:27: webAdmin.listenAddress: found the number 8081, expected text, for example "
         "\"127.0.0.1:8081\"\n",
         true},
        {"webAdmin: {listenAddress: localhost}\n",
         "p.yaml:1:27: webAdmin.listenAddress: found \"localhost\", expected an address to listen "
         "on, for example \":8080\", "
         "\"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/path\"\n",
         true},
        {"healthCheck: {listenAddress: ':65536'}\n",
         "p.yaml:1:30: healthCheck.listenAddress: found \":65536\", expected an address to listen "
         "on, for example \":8080\", "
         "\"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/path\"\n",
         true},
        {"healthCheck: {listenAddress: ':0x10'}\n",
         "p.yaml:1:30: healthCheck.listenAddress: found \":0x10\", expected an address to listen "
         "on, for example \":8080\", \"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/path\"\n",
         true},
        {"logger: {system: [{level: loud, sink: stdout}]}\n",
         "p.yaml:1:27: logger.system[0].level: found \"loud\", expected one of debug, info, warn, "
         "error, warning, for example info\n",
         true},
        {"logger: {system: [{level: info, sink: nowhere}]}\n",
         "p.yaml:1:39: logger.system[0].sink: found \"nowhere\", expected a name of logger.sinks\n",
         true},
        {"metrics: {functions: [nowhere]}\n",
         "p.yaml:1:23: metrics.functions[0]: found \"nowhere\", expected a name of metrics.sinks\n",
         true},
        {"metrics: {sinks: {p: {kind: prometheusPull, url: nowhere}}}\n",
         "p.yaml:1:50: metrics.sinks.p.url: found \"nowhere\", expected an address to listen on, "
         "for example \":8080\", \"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/path\"\n",
         true},
        {"metrics: {sinks: {p: {kind: appinsights}}}\n",
         "p.yaml:1:29: warning: metrics.sinks.p.kind: \"appinsights\" is not supported by this "
         "build yet, the sink is ignored\n",
         false},
        {"webadmin: {enabled: true}\nnamspace: x\n",
         "p.yaml:1:1: warning: webadmin: the name of this key is \"webAdmin\"\n"
         "p.yaml:2:1: warning: namspace: unknown key, it is ignored\n",
         false},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_config c;
        char *told;
        int rc = load(&c, cases[i].yaml, plain, &told);

        if ((rc != 0) != cases[i].refused || strcmp(told, cases[i].told) != 0)
            fail_msg("%s\nreturned %d\ntold     %sexpected %s", cases[i].yaml, rc, told,
                     cases[i].told);
        free(told);
        st_config_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_file),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_push_sinks),
        cmocka_unit_test(test_chosen_push_sinks),
        cmocka_unit_test(test_name_templates),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_log_styles),
        cmocka_unit_test(test_log_sinks_of_functions),
        cmocka_unit_test(test_log_sinks_without_platform),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
