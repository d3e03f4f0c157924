/* metadata.annotations of Nuclio's kafka trigger, read into the trigger's options. */
#include "tests/unit/test_core.h"

#include "tests/support/config_kit.h"
#include "triggers/kafka/kafka_int.h"
#include "triggers/kafka/kafka_trigger.h"

static const struct st_trigger_kind *const kinds[] = {&st_trigger_kafka_kind, &kit_http, NULL};

/* Loads a function with these annotations and these further lines of its trigger; `told` is all
 * that is said. */
static int load(struct st_config *c, const char *annotations, const char *trigger, const char *told)
{
    struct st_config_args args = {.config = "f.yaml"};
    struct st_config_env env = {kinds, kit_runtimes, kit_root, NULL, kit_isolated, kit_outputs};
    char yaml[2048], *text;
    size_t size;
    int rc;

    snprintf(yaml, sizeof yaml,
             "metadata:\n  annotations:\n%sspec:\n  runtime: native\n  triggers:\n    k:\n"
             "      kind: kafka\n      url: here:1\n%s",
             annotations, trigger);
    kit_write("f.yaml", yaml);
    env.out = open_memstream(&text, &size);
    assert_non_null(env.out);
    rc = st_config_load_env(c, &args, &env);
    assert_int_equal(fclose(env.out), 0);
    assert_string_equal(text, told);
    free(text);
    return rc;
}

#define TOPICS "      attributes:\n        topics: [t]\n        consumerGroup: g\n"

static const struct kafka_attributes *attributes_of(const struct st_config *c)
{
    return c->function.triggers[0].attributes;
}

static void test_all(void **state)
{
    static const char annotations[] = "    nuclio.io/kafka-session-timeout: 20s\n"
                                      "    nuclio.io/kafka-heartbeat-interval: \"2s\"\n"
                                      "    nuclio.io/kafka-max-processing-time: 7m\n"
                                      "    nuclio.io/kafka-rebalance-timeout: 30s\n"
                                      "    nuclio.io/kafka-balance-strategy: roundrobin\n"
                                      "    nuclio.io/kafka-initial-offset: earliest\n"
                                      "    nuclio.io/kafka-max-wait-time: 100ms\n"
                                      "    nuclio.io/kafka-max-wait-handler-during-rebalance: 9s\n"
                                      "    nuclio.io/kafka-worker-allocation-mode: static\n"
                                      "    nuclio.io/kafka-fetch-min: \"10\"\n"
                                      "    nuclio.io/kafka-fetch-default: 2000\n"
                                      "    nuclio.io/kafka-fetch-max: \"3000000\"\n"
                                      "    nuclio.io/kafka-secret-path: /secrets\n"
                                      "    nuclio.io/kafka-ca-cert: ca\n"
                                      "    nuclio.io/kafka-access-key: key\n"
                                      "    nuclio.io/kafka-access-cert: cert\n"
                                      "    nuclio.io/kafka-tls-enabled: \"true\"\n"
                                      "    nuclio.io/kafka-tls-insecure-skip-verify: \"true\"\n"
                                      "    nuclio.io/kafka-tls-minimum-version: \"1.3\"\n"
                                      "    nuclio.io/kafka-sasl-enabled: true\n"
                                      "    nuclio.io/kafka-sasl-handshake: \"false\"\n"
                                      "    nuclio.io/kafka-sasl-mechanism: SCRAM-SHA-512\n"
                                      "    nuclio.io/kafka-sasl-user: 17\n"
                                      "    nuclio.io/kafka-sasl-password: \"18\"\n"
                                      "    nuclio.io/kafka-sasl-oauth-client-id: id\n"
                                      "    nuclio.io/kafka-sasl-oauth-client-secret: secret\n"
                                      "    nuclio.io/kafka-sasl-oauth-token-url: http://h/t\n"
                                      "    nuclio.io/kafka-sasl-oauth-scopes: one, two\n"
                                      "    nuclio.io/kafka-termination-wait-time: 21s\n"
                                      "    nuclio.io/kafka-explicit-ack-mode: explicitOnly\n"
                                      "    nuclio.io/wait-explicit-ack-during-rebalance-timeout: "
                                      "3s\n"
                                      "    nuclio.io/kafka-version: 1.0.0\n"
                                      "    somebody.else/kafka-session-timeout: [1]\n";
    const struct kafka_attributes *a;
    struct st_config c;

    (void)state;
    assert_int_equal(load(&c, annotations, TOPICS, ""), 0);
    a = attributes_of(&c);
    assert_int_equal(a->session_ns, 20 * ST_SEC);
    assert_int_equal(a->heartbeat_ns, 2 * ST_SEC);
    assert_int_equal(a->max_processing_ns, 420 * ST_SEC);
    assert_int_equal(a->rebalance_ns, 30 * ST_SEC);
    assert_int_equal(a->balance, 1);
    assert_int_equal(a->initial_offset, 0);
    assert_int_equal(a->max_wait_ns, 100 * ST_MSEC);
    assert_int_equal(a->drain_ns, 9 * ST_SEC);
    assert_int_equal(a->allocation, KAFKA_STATIC);
    assert_int_equal(a->fetch_min, 10);
    assert_int_equal(a->fetch_default, 2000);
    assert_int_equal(a->fetch_max, 3000000);
    assert_string_equal(a->client.secret_path, "/secrets");
    assert_string_equal(a->client.ca_cert, "ca");
    assert_string_equal(a->client.access_key, "key");
    assert_string_equal(a->client.access_cert, "cert");
    assert_true(a->client.tls.enable);
    assert_true(a->client.tls.skip_verify);
    assert_string_equal(a->client.tls.minimum_version, "1.3");
    assert_true(a->client.sasl.enable);
    assert_false(a->client.sasl.handshake);
    assert_string_equal(a->client.sasl.mechanism, "SCRAM-SHA-512");
    assert_string_equal(a->client.sasl.user, "17"); /* whatever YAML takes it for */
    assert_string_equal(a->client.sasl.password, "18");
    assert_string_equal(a->client.sasl.oauth.client_id, "id");
    assert_string_equal(a->client.sasl.oauth.client_secret, "secret");
    assert_string_equal(a->client.sasl.oauth.token_url, "http://h/t");
    assert_int_equal(a->client.sasl.oauth.scopes.count, 2);
    assert_string_equal(a->client.sasl.oauth.scopes.items[1], "two");
    assert_int_equal(c.function.triggers[0].stop_ns, 21 * ST_SEC);
    assert_int_equal(c.function.triggers[0].delivery.ack_mode, ST_ACK_EXPLICIT_ONLY);
    assert_int_equal(c.function.triggers[0].delivery.ack_wait_ns, 3 * ST_SEC);
    st_config_free(&c);
}

/* An attribute wins, but for explicit acknowledgements. */
static void test_precedence(void **state)
{
    struct st_config c;

    (void)state;
    assert_int_equal(load(&c,
                          "    nuclio.io/kafka-session-timeout: 20s\n"
                          "    nuclio.io/kafka-sasl-user: annotation\n"
                          "    nuclio.io/kafka-sasl-password: annotation\n"
                          "    nuclio.io/kafka-explicit-ack-mode: enable\n"
                          "    nuclio.io/wait-explicit-ack-during-rebalance-timeout: 3s\n",
                          TOPICS "        sessionTimeout: 30s\n"
                                 "        sasl: {enable: true, user: attribute}\n"
                                 "      explicitAckMode: explicitOnly\n"
                                 "      waitExplicitAckDuringRebalanceTimeout: 5s\n",
                          ""),
                     0);
    assert_int_equal(attributes_of(&c)->session_ns, 30 * ST_SEC);
    assert_string_equal(attributes_of(&c)->client.sasl.user, "attribute");
    assert_string_equal(attributes_of(&c)->client.sasl.password, "annotation");
    assert_int_equal(c.function.triggers[0].delivery.ack_mode, ST_ACK_ENABLE);
    assert_int_equal(c.function.triggers[0].delivery.ack_wait_ns, 3 * ST_SEC);
    st_config_free(&c);
}

static void test_faults(void **state)
{
    struct st_config c;

    (void)state;
    assert_int_not_equal(
        load(&c,
             "    nuclio.io/kafka-fetch-min: many\n"
             "    nuclio.io/kafka-session-timeout: {a: b}\n",
             TOPICS,
             "f.yaml:3:32: metadata.annotations[\"nuclio.io/kafka-fetch-min\"]: found \"many\", "
             "expected a whole number from 1 to 100000000, for example 1\n"
             "f.yaml:4:5: metadata.annotations[\"nuclio.io/kafka-session-timeout\"]: found an "
             "object, expected a duration from 1s to 1h, for example \"10s\"\n"),
        0);
    /* What the kind itself finds has the annotation's place. */
    assert_int_not_equal(load(&c, "    nuclio.io/kafka-heartbeat-interval: 20s\n", TOPICS,
                              "f.yaml:3:41: spec.triggers.k.attributes.heartbeatInterval: found "
                              "as long as sessionTimeout or longer, expected about a third of "
                              "it\n"),
                         0);
    assert_int_equal(
        load(&c, "    nuclio.io/kafka-sesion-timeout: 20s\n    nuclio.io/kafka-log-level: \"9\"\n",
             TOPICS,
             "f.yaml:3:5: warning: metadata.annotations[\"nuclio.io/kafka-sesion-timeout\"]: "
             "unknown annotation, did you mean \"nuclio.io/kafka-session-timeout\"? It is "
             "ignored\n"),
        0);
    st_config_free(&c);
}

/* Each of the table sets an option that exists. */
static void test_table(void **state)
{
    struct st_config c;
    char line[256];

    (void)state;
    for (const struct st_annotation *a = kafka_annotations; a->name != NULL; a++) {
        snprintf(line, sizeof line, "    %s:\n", a->name);
        assert_int_equal(load(&c, line, TOPICS, ""), 0);
        st_config_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
