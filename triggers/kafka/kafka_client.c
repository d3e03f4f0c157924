#include "triggers/kafka/kafka_client.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>

#include "processor/core/alloc.h"
#include "processor/core/log.h"
#include "processor/net/fetch.h"

enum { SECRET_MAX = 1024 * 1024, TEXT_MAX = 512 };

#define SASL(member)                                    \
    (offsetof(struct st_kafka_client_options, member) - \
     offsetof(struct st_kafka_client_options, sasl))
#define OAUTH(member)                                              \
    (offsetof(struct st_kafka_client_options, sasl.oauth.member) - \
     offsetof(struct st_kafka_client_options, sasl.oauth))
#define TLS(member)                                     \
    (offsetof(struct st_kafka_client_options, member) - \
     offsetof(struct st_kafka_client_options, tls))

static const struct st_option oauth_table[] = {
    {.name = "clientID",
     .type = ST_OPT_STRING,
     .offset = OAUTH(client_id),
     .value = "",
     .flags = ST_OPT_EXPAND,
     .help = "Who asks for tokens.",
     .example = "orders-function"},
    {.name = "clientSecret",
     .type = ST_OPT_STRING,
     .offset = OAUTH(client_secret),
     .value = "",
     .flags = ST_OPT_EXPAND | ST_OPT_SECRET,
     .help = "Its secret, or the file that has it."},
    {.name = "tokenURL",
     .type = ST_OPT_STRING,
     .offset = OAUTH(token_url),
     .value = "",
     .flags = ST_OPT_EXPAND,
     .help = "The endpoint that gives tokens for client credentials.",
     .example = "https://login.example.com/oauth2/token"},
    {.name = "scopes",
     .type = ST_OPT_STRING_LIST,
     .offset = OAUTH(scopes),
     .flags = ST_OPT_EXPAND,
     .help = "What the tokens shall be good for.",
     .example = "[kafka]"},
    {.name = NULL}};

const struct st_option st_kafka_sasl_table[] = {
    {.name = "enable",
     .type = ST_OPT_BOOL,
     .offset = SASL(sasl.enable),
     .flags = ST_OPT_EXPAND,
     .help = "Whether to authenticate."},
    {.name = "handshake",
     .type = ST_OPT_BOOL,
     .offset = SASL(sasl.handshake),
     .value = "true",
     .flags = ST_OPT_EXPAND,
     .help = "Nuclio's; librdkafka sends Kafka's handshake always."},
    {.name = "mechanism",
     .type = ST_OPT_STRING,
     .offset = SASL(sasl.mechanism),
     .value = "PLAIN",
     .flags = ST_OPT_EXPAND,
     .help = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.",
     .example = "SCRAM-SHA-256"},
    {.name = "user",
     .type = ST_OPT_STRING,
     .offset = SASL(sasl.user),
     .value = "",
     .flags = ST_OPT_EXPAND,
     .help = "Its name.",
     .example = "me"},
    {.name = "password",
     .type = ST_OPT_STRING,
     .offset = SASL(sasl.password),
     .value = "",
     .flags = ST_OPT_EXPAND | ST_OPT_SECRET,
     .help = "Its password, or the file that has it."},
    {.name = "oauth",
     .type = ST_OPT_OBJECT,
     .offset = SASL(sasl.oauth),
     .table = oauth_table,
     .help = "Where the tokens of OAUTHBEARER come from.",
     .example = "{clientID: me, clientSecret: secret, tokenURL: \"https://login/token\"}"},
    {.name = NULL}};

const struct st_option st_kafka_tls_table[] = {
    {.name = "enable",
     .type = ST_OPT_BOOL,
     .offset = TLS(tls.enable),
     .flags = ST_OPT_EXPAND,
     .help = "Whether to encrypt."},
    {.name = "insecureSkipVerify",
     .type = ST_OPT_BOOL,
     .offset = TLS(tls.skip_verify),
     .flags = ST_OPT_EXPAND,
     .help = "Do not look at the brokers' certificates."},
    {.name = "minimumVersion",
     .type = ST_OPT_STRING,
     .offset = TLS(tls.minimum_version),
     .value = "1.2",
     .flags = ST_OPT_EXPAND,
     .help = "Of TLS: 1.2 or 1.3.",
     .example = "1.3"},
    {.name = NULL}};

static bool is_one_of(const char *text, const char *const *names)
{
    for (; *names != NULL; names++)
        if (strcmp(text, *names) == 0)
            return true;
    return false;
}

static bool is_set(const char *text)
{
    return text != NULL && text[0] != '\0';
}

bool st_kafka_client_wants_tokens(const struct st_kafka_client_options *o)
{
    return o->sasl.enable && strcmp(o->sasl.mechanism, "OAUTHBEARER") == 0;
}

static int check_oauth(const struct st_kafka_client_options *o, const char **member,
                       struct st_error *err)
{
    struct st_error why;

    *member = "sasl.oauth.clientID";
    if (!is_set(o->sasl.oauth.client_id))
        return st_error_set(err, ST_ERR_INVALID,
                            "found nothing, expected an id, because sasl.mechanism is OAUTHBEARER");
    *member = "sasl.oauth.tokenURL";
    if (st_fetch_check_url(is_set(o->sasl.oauth.token_url) ? o->sasl.oauth.token_url : "", &why) !=
        ST_OK)
        return st_error_set(err, ST_ERR_INVALID, "%s", why.text);
    return ST_OK;
}

static int check_sasl(const struct st_kafka_client_options *o, const char **member,
                      struct st_error *err)
{
    static const char *const mechanisms[] = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512",
                                             "OAUTHBEARER", NULL};

    if (!o->sasl.enable)
        return ST_OK;
    *member = "sasl.mechanism";
    if (!is_one_of(o->sasl.mechanism, mechanisms))
        return st_error_set(err, ST_ERR_INVALID,
                            "found \"%.32s\", expected PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or "
                            "OAUTHBEARER",
                            o->sasl.mechanism);
    if (st_kafka_client_wants_tokens(o))
        return check_oauth(o, member, err);
    *member = "sasl.user";
    if (!is_set(o->sasl.user))
        return st_error_set(err, ST_ERR_INVALID,
                            "found nothing, expected a user, because sasl.enable is true");
    return ST_OK;
}

int st_kafka_client_check(const struct st_kafka_client_options *o, const char **member,
                          struct st_error *err)
{
    static const char *const versions[] = {"1.2", "1.3", NULL};

    *member = "tls.minimumVersion";
    if (!is_one_of(o->tls.minimum_version, versions))
        return st_error_set(err, ST_ERR_INVALID, "found \"%.32s\", expected 1.2 or 1.3",
                            o->tls.minimum_version);
    *member = is_set(o->access_key) ? "accessKey" : "accessCertificate";
    if (is_set(o->access_key) != is_set(o->access_cert))
        return st_error_set(err, ST_ERR_INVALID,
                            "found one of accessKey and accessCertificate, expected both or none");
    return check_sasl(o, member, err);
}

/* ---- secrets ---- */

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "re");
    struct stat st;
    char *text = NULL;
    size_t n;

    if (file == NULL)
        return NULL;
    if (fstat(fileno(file), &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= SECRET_MAX) {
        text = st_calloc(1, (size_t)st.st_size + 1);
        n = fread(text, 1, (size_t)st.st_size, file);
        while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL)
            n--;
        text[n] = '\0';
    }
    fclose(file);
    return text;
}

char *st_kafka_client_secret(const struct st_kafka_client_options *o, const char *value)
{
    char *path = NULL, *text = NULL;
    bool absolute = value[0] == '/';
    int n = 0;

    if (value[0] != '\0' && strlen(value) < TEXT_MAX && strstr(value, "-----") == NULL &&
        (absolute || is_set(o->secret_path))) {
        n = asprintf(&path, "%s%s%s", absolute ? "" : o->secret_path, absolute ? "" : "/", value);
        ST_ASSERT(n > 0);
        text = read_file(path);
        free(path);
    }
    if (text == NULL)
        text = strdup(value);
    ST_ASSERT(text != NULL);
    return text;
}

/* PEM whose newlines became "@" or blanks, as some tools store it, gets them back: everywhere but
 * within the words of a BEGIN or END line. */
static void repair_pem(char *text)
{
    bool in_mark = false;

    if (strstr(text, "-----BEGIN") == NULL || strchr(text, '\n') != NULL)
        return;
    for (char *p = text; *p != '\0'; p++) {
        if (strncmp(p, "-----", 5) == 0) {
            in_mark = !in_mark;
            p += 4;
        } else if (!in_mark && (*p == '@' || *p == ' ')) {
            *p = '\n';
        }
    }
}

/* Wipes what was secret before it goes. */
static void secret_free(char *text)
{
    explicit_bzero(text, strlen(text));
    free(text);
}

/* ---- properties ---- */

static int set_text(rd_kafka_conf_t *conf, const char *name, const char *value,
                    struct st_error *err)
{
    char why[TEXT_MAX] = "";

    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK)
        return ST_OK;
    return st_error_set(err, ST_ERR_INVALID, "librdkafka: %s", why);
}

int st_kafka_conf_set(rd_kafka_conf_t *conf, struct st_error *err, const char *name,
                      const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return set_text(conf, name, text, err);
}

int st_kafka_conf_apply(rd_kafka_conf_t *conf, const struct st_string_map *properties,
                        const char *const *reserved, struct st_error *err)
{
    for (size_t i = 0; i < properties->count; i++) {
        const struct st_string_pair *p = &properties->items[i];
        int code;

        if (is_one_of(p->name, reserved))
            return st_error_set(err, ST_ERR_INVALID,
                                "librdkafka.%s: found a property that is the processor's own to "
                                "set, expected another",
                                p->name);
        if ((code = set_text(conf, p->name, p->value, err)) != ST_OK)
            return code;
    }
    return ST_OK;
}

static int set_secret(rd_kafka_conf_t *conf, const struct st_kafka_client_options *o,
                      const char *name, const char *value, struct st_error *err)
{
    char *text;
    int code;

    if (!is_set(value))
        return ST_OK;
    text = st_kafka_client_secret(o, value);
    repair_pem(text);
    code = set_text(conf, name, text, err);
    secret_free(text);
    return code;
}

static int set_brokers(rd_kafka_conf_t *conf, const struct st_kafka_client_options *o,
                       const char *url, struct st_error *err)
{
    char *list = NULL;
    size_t size;
    FILE *out;
    int code;

    if (o->brokers.count == 0 && !is_set(url))
        return st_error_set(err, ST_ERR_INVALID,
                            "brokers: found none, expected at least one, for "
                            "example \"kafka:9092\"");
    if (o->brokers.count == 0)
        return set_text(conf, "bootstrap.servers", url, err);
    out = open_memstream(&list, &size);
    ST_ASSERT(out != NULL);
    for (size_t i = 0; i < o->brokers.count; i++)
        fprintf(out, "%s%s", i > 0 ? "," : "", o->brokers.items[i]);
    ST_ASSERT(fclose(out) == 0);
    code = set_text(conf, "bootstrap.servers", list, err);
    free(list);
    return code;
}

static int set_tls(rd_kafka_conf_t *conf, const struct st_kafka_client_options *o,
                   struct st_error *err)
{
    int code;

    if ((code = set_secret(conf, o, "ssl.ca.pem", o->ca_cert, err)) != ST_OK ||
        (code = set_secret(conf, o, "ssl.key.pem", o->access_key, err)) != ST_OK ||
        (code = set_secret(conf, o, "ssl.certificate.pem", o->access_cert, err)) != ST_OK)
        return code;
    if (o->tls.skip_verify &&
        ((code = set_text(conf, "enable.ssl.certificate.verification", "false", err)) != ST_OK ||
         (code = set_text(conf, "ssl.endpoint.identification.algorithm", "none", err)) != ST_OK))
        return code;
    if (!o->tls.skip_verify &&
        (code = set_text(conf, "ssl.endpoint.identification.algorithm", "https", err)) != ST_OK)
        return code;
    /* librdkafka has no least version. The suites of TLS 1.3 are not on this list, they are always
     * offered; and those of pre-shared keys never are, because there are none. */
    if (strcmp(o->tls.minimum_version, "1.3") == 0)
        return set_text(conf, "ssl.cipher.suites", "PSK-AES128-GCM-SHA256", err);
    return ST_OK;
}

static int set_security(rd_kafka_conf_t *conf, const struct st_kafka_client_options *o,
                        struct st_error *err)
{
    bool tls = o->tls.enable || is_set(o->ca_cert);
    int code = set_text(
        conf, "security.protocol",
        o->sasl.enable ? (tls ? "sasl_ssl" : "sasl_plaintext") : (tls ? "ssl" : "plaintext"), err);

    if (code != ST_OK || (tls && (code = set_tls(conf, o, err)) != ST_OK))
        return code;
    if (!o->sasl.enable)
        return ST_OK;
    if ((code = set_text(conf, "sasl.mechanism", o->sasl.mechanism, err)) != ST_OK ||
        st_kafka_client_wants_tokens(o) ||
        (code = set_text(conf, "sasl.username", o->sasl.user, err)) != ST_OK)
        return code;
    return set_secret(conf, o, "sasl.password", o->sasl.password, err);
}

/* ---- log ---- */

static enum st_log_level level_of(int level)
{
    if (level <= LOG_ERR)
        return ST_LOG_ERROR;
    if (level == LOG_WARNING)
        return ST_LOG_WARN;
    return level <= LOG_INFO ? ST_LOG_INFO : ST_LOG_DEBUG;
}

/* Brokers that are away are told again and again: one line a second. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    ST_LOG_LIMITED(level_of(level), "kafka", text, ST_KV_STR("facility", facility),
                   ST_KV_STR("client", rk != NULL ? rd_kafka_name(rk) : ""));
}

rd_kafka_conf_t *st_kafka_client_conf(const struct st_kafka_client_options *o, const char *url,
                                      struct st_error *err)
{
    rd_kafka_conf_t *conf;

    if (st_rdkafka_load(err) != ST_OK)
        return NULL;
    conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, on_log);
    /* log.queue: no thread of librdkafka's calls us. */
    if (set_text(conf, "client.id", "stator", err) == ST_OK &&
        set_text(conf, "log.queue", "true", err) == ST_OK &&
        set_brokers(conf, o, url, err) == ST_OK && set_security(conf, o, err) == ST_OK)
        return conf;
    rd_kafka_conf_destroy(conf);
    return NULL;
}

void st_kafka_client_started(rd_kafka_t *rk)
{
    rd_kafka_set_log_queue(rk, NULL);
}
