/* spec.stator.outputs: each by its kind's table, told with its place. */
#include "tests/unit/test_core.h"

#include "processor/config/output_table.h"
#include "tests/support/config_kit.h"

#define HEAD              \
    "spec:\n"             \
    "  runtime: native\n" \
    "  handler: a.so\n"   \
    "  stator:\n"         \
    "    outputs:\n"

static void check(const char *yaml, const char *expected)
{
    struct st_config c;
    char *told;
    int rc = kit_load_text(&c, yaml, &told);

    assert_string_equal(told, expected);
    assert_int_equal(rc == 0, strstr(expected, "expected") == NULL);
    if (rc == 0)
        st_config_free(&c);
    free(told);
}

static void test_read(void **state)
{
    struct st_config c;
    const struct kit_sink *sink;
    json_t *shown;
    char *told;

    (void)state;
    setenv("KIT_SECRET", "hush", 1);
    assert_int_equal(kit_load_text(&c,
                                   HEAD "      a: {Kind: sink, to: here}\n"
                                        "      b c: {kind: sink, to: there, secret: "
                                        "\"${KIT_SECRET}\"}\n",
                                   &told),
                     0);
    assert_string_equal(told, "f.yaml:6:11: warning: spec.stator.outputs.a.Kind: the name of this "
                              "key is \"kind\"\n");
    free(told);
    assert_int_equal(c.function.output_count, 2);
    assert_string_equal(c.function.outputs[0].name, "a");
    assert_ptr_equal(c.function.outputs[0].kind, &kit_sinks);
    sink = c.function.outputs[0].options;
    assert_string_equal(sink->to, "here");
    assert_string_equal(sink->secret, "");
    assert_string_equal(c.function.outputs[1].name, "b c");
    sink = c.function.outputs[1].options;
    assert_string_equal(sink->secret, "hush");
    shown = st_output_show(&c.function.outputs[1]);
    told = json_dumps(shown, JSON_SORT_KEYS);
    assert_string_equal(told,
                        "{\"kind\": \"sink\", \"secret\": \"[redacted]\", \"to\": \"there\"}");
    free(told);
    json_decref(shown);
    st_config_free(&c);
}

static void test_none(void **state)
{
    struct st_config c;
    char *told;

    (void)state;
    assert_int_equal(kit_load_text(&c, HEAD, &told), 0); /* a key without a value */
    assert_string_equal(told, "");
    assert_int_equal(c.function.output_count, 0);
    st_config_free(&c);
    free(told);
}

static void test_faults(void **state)
{
    (void)state;
    check(HEAD "      a: {kind: sin, to: b}\n",
          "f.yaml:6:17: spec.stator.outputs.a.kind: found \"sin\", expected one of sink, for "
          "example \"sink\"\n");
    check(HEAD "      a: {to: b}\n",
          "f.yaml:6:7: spec.stator.outputs.a.kind: found nothing, expected one of sink, for "
          "example \"sink\"\n");
    check(HEAD "      a: here\n",
          "f.yaml:6:7: spec.stator.outputs.a: found no object, expected one, for example {kind: "
          "kafka, brokers: [kafka:9092], topic: orders}\n");
    check(
        HEAD "      a: {kind: sink}\n",
        "f.yaml:6:7: spec.stator.outputs.a.to: found nothing, expected text, for example \"a\"\n");
    check(HEAD "      a: {kind: sink, to: nowhere}\n",
          "f.yaml:6:7: spec.stator.outputs.a.to: found \"nowhere\", expected a place\n");
    check(HEAD "      a: {kind: sink, to: b, secrt: c}\n",
          "f.yaml:6:30: warning: spec.stator.outputs.a.secrt: unknown key, did you mean "
          "\"secret\"? It is ignored\n");
    check("spec: {runtime: native, handler: a.so, stator: {outputs: [a]}}\n",
          "f.yaml:1:49: spec.stator.outputs: found a list, expected an object, for example "
          "{orders: {kind: kafka, brokers: [kafka:9092], topic: orders}}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
