/* stator health: what a container's or a supervisor's probe runs. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "processor/cli/cli.h"
#include "processor/cli/client.h"
#include "processor/cli/usage.h"
#include "processor/config/diag.h"
#include "processor/config/schema.h"

enum { OPT_PORT = 0x100, OPT_PLATFORM_CONFIG, OPT_TIMEOUT, OPT_HELP };

struct health {
    int64_t port; /* 0: of the configuration */
    const char *platform_config;
    uint64_t timeout_ns;
};

static const char container_platform[] = "/etc/nuclio/config/platform/platform.yaml";

static const struct argp_option options[] = {
    {"port", OPT_PORT, "N", 0, "Port of the health listener; else the platform's, or 8082", 0},
    {"platform-config", OPT_PLATFORM_CONFIG, "FILE", 0, "The platform's configuration", 0},
    {"timeout", OPT_TIMEOUT, "DURATION", 0, "How long to wait for the answer, 5s", 0},
    {"help", OPT_HELP, NULL, 0, "Show this help", -1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state);

static const struct argp parser = {
    options,
    parse,
    "",
    "Ask a processor on this machine whether it is ready.\v"
    "The status is 0 when it is, otherwise 1 with a line that says why not. Without --port the "
    "health address of the platform's configuration is asked, which is "
    "/etc/nuclio/config/platform/platform.yaml if that exists.",
    NULL,
    NULL,
    NULL};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct health *h = state->input;

    switch (key) {
    case OPT_PORT:
        h->port = st_usage_number(ST_CLI_HEALTH_SYNOPSIS, "--port", arg, 1, 65535);
        return 0;
    case OPT_PLATFORM_CONFIG:
        h->platform_config = arg;
        return 0;
    case OPT_TIMEOUT:
        h->timeout_ns = st_usage_duration(ST_CLI_HEALTH_SYNOPSIS, "--timeout", arg);
        return 0;
    case OPT_HELP:
        argp_help(&parser, stdout, ARGP_HELP_LONG | ARGP_HELP_USAGE | ARGP_HELP_DOC, state->name);
        exit(EXIT_SUCCESS);
    case ARGP_KEY_ARG:
        st_usage_fail(ST_CLI_HEALTH_SYNOPSIS, "health takes no argument, found \"%s\"", arg);
    case ARGP_KEY_ERROR:
        st_usage_bad_option("health", ST_CLI_HEALTH_SYNOPSIS, options, state);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The platform's health address; false: it can't be read (and why was said), or there is none. */
static bool configured_address(const char *file, char *out, size_t size)
{
    struct st_config_memory *mem = st_config_memory_new();
    struct st_platform_config p = {.disable_default_http = false};
    struct st_document doc;
    struct st_diag diag;
    int rc = 0;

    st_diag_init(&diag, stderr);
    if (file == NULL && access(container_platform, F_OK) == 0)
        file = container_platform;
    if (file == NULL) {
        st_platform_defaults(&p, mem);
    } else {
        rc = st_document_open(&doc, file, mem, &diag);
        if (rc == 0) {
            rc = st_platform_read(&p, &doc);
            st_document_close(&doc);
        }
        st_diag_flush(&diag);
    }
    if (rc == 0 && !p.health.enabled) {
        fprintf(stderr, "stator: healthCheck is disabled in %s\n", file);
        rc = ST_ERR_NOTFOUND;
    }
    if (rc == 0)
        snprintf(out, size, "%s", p.health.listen_address);
    st_config_memory_free(mem);
    return rc == 0;
}

static int ask(const char *where, uint64_t timeout_ns)
{
    struct st_client_address address;
    struct st_client_request request = {
        .address = &address, .method = "GET", .target = "/ready", .timeout_ns = timeout_ns};
    struct st_client_response answer;
    struct st_error err;
    const char *target;
    bool ready;

    if (st_client_address_parse(&address, &target, where, &err) != ST_OK ||
        st_client_ask(&answer, &request, &err) != ST_OK) {
        fprintf(stderr, "stator: not ready: %s\n", err.text);
        return EXIT_FAILURE;
    }
    ready = answer.status == 200;
    if (!ready)
        fprintf(stderr, "stator: not ready: status %u %s\n", answer.status,
                answer.body != NULL ? answer.body : "");
    st_client_response_free(&answer);
    return ready ? EXIT_SUCCESS : EXIT_FAILURE;
}

int st_cli_health(int argc, char **argv)
{
    struct health h = {.timeout_ns = 5 * ST_SEC};
    char where[300];

    if (argp_parse(&parser, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &h) != 0)
        st_usage_fail(ST_CLI_HEALTH_SYNOPSIS, "health: wrong usage");
    if (h.port != 0 && h.platform_config != NULL)
        st_usage_fail(ST_CLI_HEALTH_SYNOPSIS, "health: --port or --platform-config, not both");
    if (h.port != 0)
        snprintf(where, sizeof where, "127.0.0.1:%lld", (long long)h.port);
    else if (!configured_address(h.platform_config, where, sizeof where))
        return EXIT_FAILURE;
    return ask(where, h.timeout_ns);
}
