/* What clients of Kafka are told: options, secrets, repaired PEM. Needs librdkafka. */
#include "tests/unit/test_core.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "triggers/kafka/kafka_client.h"

static char folder[] = "/tmp/stator-kafka-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    char command[64];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void write_file(const char *name, const char *text)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static char *brokers[] = {(char *)"a:1", (char *)"b:2"};

static struct st_kafka_client_options options(void)
{
    return (struct st_kafka_client_options){
        .brokers = {brokers, 2},
        .sasl = {.mechanism = (char *)"PLAIN", .user = (char *)"", .password = (char *)""},
        .tls = {.minimum_version = (char *)"1.2"},
        .ca_cert = (char *)"",
        .access_key = (char *)"",
        .access_cert = (char *)"",
        .secret_path = (char *)"",
    };
}

static char value[4096];

static const char *get(const rd_kafka_conf_t *conf, const char *name)
{
    static __typeof__(rd_kafka_conf_get) *conf_get; /* nobody else needs it */
    size_t size = sizeof value;
    void *symbol;

    if (conf_get == NULL) {
        symbol = dlsym(dlopen("librdkafka.so.1", RTLD_NOW), "rd_kafka_conf_get");
        assert_non_null(symbol);
        memcpy(&conf_get, &symbol, sizeof symbol);
    }
    value[0] = '\0';
    assert_int_equal(conf_get(conf, name, value, &size), RD_KAFKA_CONF_OK);
    return value;
}

static rd_kafka_conf_t *make(const struct st_kafka_client_options *o)
{
    struct st_error err = {.code = ST_OK};
    rd_kafka_conf_t *conf = st_kafka_client_conf(o, NULL, &err);

    assert_string_equal(err.text, "");
    assert_non_null(conf);
    return conf;
}

static void test_plain(void **state)
{
    struct st_kafka_client_options o = options();
    rd_kafka_conf_t *conf = make(&o);
    struct st_error err;

    (void)state;
    assert_string_equal(get(conf, "bootstrap.servers"), "a:1,b:2");
    assert_string_equal(get(conf, "security.protocol"), "plaintext");
    assert_string_equal(get(conf, "log.queue"), "true");
    rd_kafka_conf_destroy(conf);
    o.brokers.count = 0;
    conf = st_kafka_client_conf(&o, "c:3", &err);
    assert_string_equal(get(conf, "bootstrap.servers"), "c:3");
    rd_kafka_conf_destroy(conf);
    assert_null(st_kafka_client_conf(&o, "", &err));
    assert_string_equal(err.text,
                        "brokers: found none, expected at least one, for example \"kafka:9092\"");
}

static void test_sasl(void **state)
{
    struct st_kafka_client_options o = options();
    rd_kafka_conf_t *conf;

    (void)state;
    write_file("password", "from a file \n\n");
    o.sasl.enable = true;
    o.sasl.mechanism = (char *)"SCRAM-SHA-512";
    o.sasl.user = (char *)"ada";
    o.sasl.password = (char *)"password"; /* no folder to look in: a text */
    conf = make(&o);
    assert_string_equal(get(conf, "security.protocol"), "sasl_plaintext");
    assert_string_equal(get(conf, "sasl.mechanism"), "SCRAM-SHA-512");
    assert_string_equal(get(conf, "sasl.username"), "ada");
    assert_string_equal(get(conf, "sasl.password"), "password");
    rd_kafka_conf_destroy(conf);
    o.secret_path = folder;
    o.tls.enable = true;
    conf = make(&o);
    assert_string_equal(get(conf, "security.protocol"), "sasl_ssl");
    assert_string_equal(get(conf, "sasl.password"), "from a file");
    rd_kafka_conf_destroy(conf);
    o.sasl.password = (char *)"nothing";
    conf = make(&o);
    assert_string_equal(get(conf, "sasl.password"), "nothing");
    rd_kafka_conf_destroy(conf);
}

#define PEM "-----BEGIN NO CERTIFICATE-----\nYWJj\nZGVm\n-----END NO CERTIFICATE-----"

static void test_tls(void **state)
{
    static const char *const texts[] = {
        PEM,
        "-----BEGIN NO CERTIFICATE-----@YWJj@ZGVm@-----END NO CERTIFICATE-----",
        "-----BEGIN NO CERTIFICATE----- YWJj ZGVm -----END NO CERTIFICATE-----",
        "ca.pem",
    };
    struct st_kafka_client_options o = options();
    rd_kafka_conf_t *conf;

    (void)state;
    write_file("ca.pem", PEM "\n");
    o.secret_path = folder;
    for (size_t i = 0; i < ST_ARRAY_LEN(texts); i++) {
        o.ca_cert = (char *)(uintptr_t)texts[i]; /* turns TLS on */
        conf = make(&o);
        assert_string_equal(get(conf, "security.protocol"), "ssl");
        assert_string_equal(get(conf, "ssl.ca.pem"), PEM);
        assert_string_equal(get(conf, "ssl.endpoint.identification.algorithm"), "https");
        rd_kafka_conf_destroy(conf);
    }
    o.tls.skip_verify = true;
    o.tls.minimum_version = (char *)"1.3";
    conf = make(&o);
    assert_string_equal(get(conf, "enable.ssl.certificate.verification"), "false");
    assert_string_equal(get(conf, "ssl.endpoint.identification.algorithm"), "none");
    assert_string_equal(get(conf, "ssl.cipher.suites"), "PSK-AES128-GCM-SHA256");
    rd_kafka_conf_destroy(conf);
}

static void check_fault(struct st_kafka_client_options o, const char *where, const char *what)
{
    const char *member;
    struct st_error err;

    assert_int_equal(st_kafka_client_check(&o, &member, &err), ST_ERR_INVALID);
    assert_string_equal(member, where);
    assert_string_equal(err.text, what);
}

static void test_check(void **state)
{
    struct st_kafka_client_options o = options();
    const char *member;
    struct st_error err;

    (void)state;
    assert_int_equal(st_kafka_client_check(&o, &member, &err), ST_OK);
    o.tls.minimum_version = (char *)"1.1";
    check_fault(o, "tls.minimumVersion", "found \"1.1\", expected 1.2 or 1.3");
    o = options();
    o.access_key = (char *)"key";
    check_fault(o, "accessKey",
                "found one of accessKey and accessCertificate, expected both or none");
    o = options();
    o.sasl.enable = true;
    check_fault(o, "sasl.user", "found nothing, expected a user, because sasl.enable is true");
    o.sasl.mechanism = (char *)"MD5";
    check_fault(o, "sasl.mechanism",
                "found \"MD5\", expected PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER");
    o.sasl.mechanism = (char *)"OAUTHBEARER"; /* needs no user */
    check_fault(o, "sasl.oauth.clientID",
                "found nothing, expected an id, because sasl.mechanism is OAUTHBEARER");
    o.sasl.oauth.client_id = (char *)"me";
    check_fault(o, "sasl.oauth.tokenURL",
                "expected a URL of http or https, for example \"http://127.0.0.1:9091\"");
    o.sasl.oauth.token_url = (char *)"https://login/token";
    assert_int_equal(st_kafka_client_check(&o, &member, &err), ST_OK);
}

static void test_passthrough(void **state)
{
    static const char *const reserved[] = {"log.queue", NULL};
    struct st_string_pair good = {(char *)"socket.timeout.ms", (char *)"1234"},
                          bad = {(char *)"no.such.thing", (char *)"1"},
                          ours = {(char *)"log.queue", (char *)"false"};
    struct st_kafka_client_options o = options();
    rd_kafka_conf_t *conf = make(&o);
    struct st_error err;

    (void)state;
    assert_int_equal(st_kafka_conf_apply(conf, &(struct st_string_map){&good, 1}, reserved, &err),
                     ST_OK);
    assert_string_equal(get(conf, "socket.timeout.ms"), "1234");
    assert_int_equal(st_kafka_conf_apply(conf, &(struct st_string_map){&bad, 1}, reserved, &err),
                     ST_ERR_INVALID);
    assert_non_null(strstr(err.text, "no.such.thing"));
    assert_int_equal(st_kafka_conf_apply(conf, &(struct st_string_map){&ours, 1}, reserved, &err),
                     ST_ERR_INVALID);
    assert_string_equal(err.text, "librdkafka.log.queue: found a property that is the processor's "
                                  "own to set, expected another");
    rd_kafka_conf_destroy(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),       cmocka_unit_test(test_sasl),
        cmocka_unit_test(test_tls),         cmocka_unit_test(test_check),
        cmocka_unit_test(test_passthrough),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
