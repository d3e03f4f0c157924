/* Where configuration comes from besides its files: comments of a handler, masked secrets, the
 * platform within a function's file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "processor/core/log.h"
#include "tests/support/config_kit.h"

#define SPEC "spec:\n  runtime: native\n"

/* Loads what args name; expected is all that is told. */
static int load(struct st_config *c, const struct st_config_args *args, const char *expected)
{
    char *told;
    int rc = kit_load(c, args, &told);

    assert_string_equal(told, expected);
    free(told);
    return rc;
}

static void load_text(struct st_config *c, const char *yaml, const char *expected)
{
    struct st_config_args args = {.config = "f.yaml"};

    kit_write("f.yaml", yaml);
    assert_int_equal(load(c, &args, expected), 0);
}

static void refuse_text(const char *yaml, const char *expected)
{
    struct st_config_args args = {.config = "f.yaml"};
    struct st_config c;

    kit_write("f.yaml", yaml);
    assert_int_not_equal(load(&c, &args, expected), 0);
}

/* ---- comments ---- */

static void test_inline(void **state)
{
    struct st_config_args args = {.target = "a/job.scr", .port = 8123};
    struct st_config c;

    (void)state;
    kit_write("a/job.scr", "#!/bin/run\n"
                           "# A job.\n"
                           "\n"
                           "# @nuclio.configure\n"
                           "#\n"
                           "# function.yaml:\n"
                           "#   metadata:\n"
                           "#     name: inlined\n"
                           "#   spec:\n"
                           "#     eventTimeout: 5s\n"
                           "#     runtimeAttributes: {arguments: -v}\n"
                           "#     triggers:\n"
                           "#       web:\n"
                           "#         kind: http\n"
                           "#         numWorkers: 3\n"
                           "\n"
                           "# function.yaml: {not: of it}\n"
                           "echo: [\n");
    assert_int_equal(load(&c, &args, ""), 0);
    assert_string_equal(c.function.name, "inlined");
    assert_string_equal(c.function.handler, "job.scr");
    assert_ptr_equal(c.function.runtime, &kit_scripts);
    assert_string_equal(((struct kit_script *)c.function.runtime_attributes)->arguments, "-v");
    assert_int_equal(c.function.event_timeout_ns, 5 * ST_SEC);
    assert_int_equal(c.function.trigger_count, 1);
    assert_int_equal(c.function.triggers[0].num_workers, 3);
    assert_string_equal(c.function.triggers[0].url, ":8123"); /* the command line wins */
    assert_int_equal(c.function.triggers[0].line, 13);
    assert_int_equal(c.function.triggers[0].column, 9);
    assert_string_equal(c.code_dir, "a");
    assert_string_equal(c.file, "a/job.scr");
    st_config_free(&c);
}

/* It may say which runtime and handler; without a block nothing is read. */
static void test_inline_runtime(void **state)
{
    struct st_config_args args = {.target = "b.scr"};
    struct st_config c;

    (void)state;
    kit_write("b.scr", "#@nuclio.configure\r\n"
                       "#function.yaml:\r\n"
                       "#  spec: {runtime: native, handler: other.so}\r\n");
    assert_int_equal(load(&c, &args, ""), 0);
    assert_string_equal(c.function.name, "b");
    assert_string_equal(c.function.handler, "other.so");
    assert_ptr_equal(c.function.runtime, &kit_native);
    st_config_free(&c);
    kit_write("b.scr", "# @nuclio.configuration is nothing\n# function.yaml: [\n");
    assert_int_equal(load(&c, &args, ""), 0);
    assert_ptr_equal(c.function.runtime, &kit_scripts);
    assert_string_equal(((struct kit_script *)c.function.runtime_attributes)->arguments, "-q");
    assert_int_equal(c.function.trigger_count, 1);
    st_config_free(&c);
    kit_write("b.scr", "# @nuclio.configure\n# function.yaml:\n#   metadata: {name: only}\n");
    assert_int_equal(load(&c, &args, ""), 0);
    assert_string_equal(c.function.name, "only");
    assert_ptr_equal(c.function.runtime, &kit_scripts);
    st_config_free(&c);
}

static void test_inline_faults(void **state)
{
    static const struct {
        const char *text, *told;
    } cases[] = {
        {"# @nuclio.configure\n#\n# function.yaml:\n#   spec:\n#     eventTimeout: 5\n",
         "b.scr:5:21: spec.eventTimeout: found the number 5, expected a duration of at least 1ns, "
         "for example \"5s\"\n"},
        {"x\n# @nuclio.configure\nx\n# function.yaml: {}\n",
         "b.scr: found an empty file, expected a configuration\n"},
        {"x\n# @nuclio.configure\n# functoin.yaml:\n#   spec: {}\n",
         "b.scr:2:1: found no configuration below @nuclio.configure, expected \"function.yaml:\" "
         "and an indented body, in comments\n"},
        {"x\n# @nuclio.configure\n# function.yaml:\nx\n",
         "b.scr:2:1: found no configuration below @nuclio.configure, expected \"function.yaml:\" "
         "and an indented body, in comments\n"},
        {"# @nuclio.configure\n# function.yaml: [\n",
         "b.scr:3:1: not valid YAML: flow sequence without a closing bracket\n"},
        {"# @nuclio.configure\n# function.yaml: 5\n",
         "b.scr:2:18: found text, expected an object, for example {spec: {runtime: native}}\n"},
        {"# @nuclio.configure\n# function.yaml:\n#   spec: {triggers: {a: {}}}\n",
         "b.scr:3:23: spec.triggers.a.kind: found nothing, expected text, for example \"http\"\n"},
    };
    struct st_config_args args = {.target = "b.scr"};
    struct st_config c;

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        kit_write("b.scr", cases[i].text);
        assert_int_not_equal(load(&c, &args, cases[i].told), 0);
    }
}

/* ---- secrets ---- */

#define MASKED                                                          \
    SPEC "  triggers:\n    web:\n      kind: http\n      attributes:\n" \
         "        password: $ref:/spec/triggers/web/password\n"         \
         "        brokers: [a, '$ref:/spec/b']\n"

/* {"NUCLIO_B64_<$ref:/spec/triggers/web/password>": "s3cr${t}", "NUCLIO_B64_<$ref:/spec/b>": "b"}
 */
static const char content[] =
    "eyJOVUNMSU9fQjY0X0pISmxaam92YzNCbFl5OTBjbWxuWjJWeWN5OTNaV0l2Y0dGemMzZHZjbVFfIjog"
    "InMzY3Ike3R9IiwgIk5VQ0xJT19CNjRfSkhKbFpqb3ZjM0JsWXk5aSI6ICJiIn0=\n";

static void test_secrets(void **state)
{
    const struct kit_attributes *a;
    struct st_config c;

    (void)state;
    load_text(&c, MASKED, ""); /* nobody asked */
    a = c.function.triggers[0].attributes;
    assert_string_equal(a->password, "$ref:/spec/triggers/web/password");
    st_config_free(&c);
    setenv("NUCLIO_RESTORE_FUNCTION_CONFIG_FROM_SECRET", "true", 1);
    kit_write("etc/nuclio/secrets/content", content);
    load_text(&c, MASKED, "");
    a = c.function.triggers[0].attributes;
    assert_string_equal(a->password, "s3cr${t}");
    assert_string_equal(a->brokers.items[0], "a");
    assert_string_equal(a->brokers.items[1], "b");
    st_config_free(&c);
    load_text(&c, MASKED "  disableSensitiveFieldsMasking: yes\n", "");
    a = c.function.triggers[0].attributes;
    assert_string_equal(a->brokers.items[1], "$ref:/spec/b");
    st_config_free(&c);
    unsetenv("NUCLIO_RESTORE_FUNCTION_CONFIG_FROM_SECRET");
}

static void test_secrets_faults(void **state)
{
    (void)state;
    setenv("NUCLIO_RESTORE_FUNCTION_CONFIG_FROM_SECRET", "true", 1);
    setenv("NUCLIO_FUNCTION_SECRET_VOLUME_PATH", "elsewhere", 1);
    refuse_text(SPEC, "elsewhere/content: can't be read: No such file or directory; the function's "
                      "secrets should be there, because "
                      "NUCLIO_RESTORE_FUNCTION_CONFIG_FROM_SECRET is true\n");
    kit_write("elsewhere/content", "{\"not\": \"base64\"}");
    refuse_text(SPEC, "elsewhere/content: found something else, expected a JSON object of texts in "
                      "base64\n");
    kit_write("elsewhere/content", "WzFd"); /* [1] */
    refuse_text(SPEC, "elsewhere/content: found something else, expected a JSON object of texts in "
                      "base64\n");
    kit_write("elsewhere/content", ""); /* no secrets */
    refuse_text(SPEC "  handler: $ref:/spec/handler\n",
                "f.yaml:3:12: spec.handler: found a reference to a secret that the function's "
                "secrets do not have, expected one that they have, or the text itself\n");
    unsetenv("NUCLIO_FUNCTION_SECRET_VOLUME_PATH");
    unsetenv("NUCLIO_RESTORE_FUNCTION_CONFIG_FROM_SECRET");
}

/* ---- the platform ---- */

static void test_embedded_platform(void **state)
{
    struct st_config_args args = {.config = "f.yaml", .platform_config = "p.yaml"};
    struct st_config c;

    (void)state;
    load_text(&c,
              SPEC "PlatformConfig:\n  kind: local\n  healthCheck: {listenAddress: ':9000'}\n"
                   "  logger: {system: [{level: warn, sink: stdout}]}\n",
              "");
    assert_string_equal(c.platform.health.listen_address, ":9000");
    assert_true(c.platform.health.configured && c.platform.metrics.enabled);
    assert_int_equal(c.platform.log_functions.level, ST_LOG_WARN);
    st_config_free(&c);
    kit_write("p.yaml", "healthCheck: {listenAddress: ':9001'}\n");
    assert_int_equal(load(&c, &args, ""), 0); /* the file wins */
    assert_string_equal(c.platform.health.listen_address, ":9001");
    assert_int_equal(c.platform.log_functions.level, ST_LOG_DEBUG);
    st_config_free(&c);
    refuse_text(
        SPEC "PlatformConfig:\n  healthCheck: {enabled: 5, listenAddress: here}\n"
             "  metrics: {functions: [none]}\n",
        "f.yaml:4:26: PlatformConfig.healthCheck.enabled: found the number 5, expected a "
        "boolean, for example true\n"
        "f.yaml:4:44: PlatformConfig.healthCheck.listenAddress: found \"here\", expected an "
        "address to listen on, for example \":8080\", \"127.0.0.1:8080\", \"[::1]:8080\" or "
        "\"unix:/path\"\n"
        "f.yaml:5:25: PlatformConfig.metrics.functions[0]: found \"none\", expected a name "
        "of metrics.sinks\n");
}

static void test_cron_mode(void **state)
{
    static const struct st_trigger_kind cron = {.name = "cron"};
    static const struct st_trigger_kind *const kinds[] = {&kit_http, &cron, NULL};
    struct st_config_args args = {.config = "f.yaml"};
    struct st_config_env env = {kinds, kit_runtimes, kit_root, NULL, NULL, NULL};
    struct st_config c;
    char *told;
    size_t size;

    (void)state;
    for (int kube = 0; kube < 2; kube++) {
        kit_write("f.yaml", kube ? SPEC "  triggers: {a: {kind: cron}, b: {kind: http}}\n"
                                        "PlatformConfig: {cronTriggerCreationMode: kube}\n"
                                 : SPEC "  triggers: {a: {kind: cron}, b: {kind: http}}\n"
                                        "PlatformConfig: {cronTriggerCreationMode: processor}\n");
        env.out = open_memstream(&told, &size);
        assert_non_null(env.out);
        assert_int_equal(st_config_load_env(&c, &args, &env), 0);
        fclose(env.out);
        assert_int_equal(c.function.trigger_count, kube ? 1 : 2);
        assert_string_equal(c.function.triggers[0].name, kube ? "b" : "a");
        assert_string_equal(told, kube ? "f.yaml:3:14: warning: spec.triggers.a: left to a CronJob "
                                         "of the cluster, as the platform's "
                                         "cronTriggerCreationMode says\n"
                                       : "");
        free(told);
        st_config_free(&c);
    }
}

/* What asks for nothing gets no warning. */
static void test_nothing_to_acknowledge(void **state)
{
    struct st_config c;

    (void)state;
    load_text(&c,
              SPEC "  triggers:\n    web:\n      kind: http\n      username: ''\n"
                   "      secret:\n      explicitAckMode: disable\n"
                   "      batch: {mode: disable, batchSize: 10, timeout: 1s}\n",
              "");
    st_config_free(&c);
    load_text(&c, SPEC "  triggers:\n    web:\n      kind: http\n      explicitAckMode: enable\n",
              "f.yaml:6:24: warning: spec.triggers.web.explicitAckMode: a trigger of kind http has "
              "nothing to acknowledge and ignores it\n");
    st_config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inline),         cmocka_unit_test(test_inline_runtime),
        cmocka_unit_test(test_inline_faults),  cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_secrets_faults), cmocka_unit_test(test_embedded_platform),
        cmocka_unit_test(test_cron_mode),      cmocka_unit_test(test_nothing_to_acknowledge),
    };

    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
