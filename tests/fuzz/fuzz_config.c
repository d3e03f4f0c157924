/* A function's and a platform's configuration from any bytes; the first byte picks the file. */
#include "tests/support/config_kit.h"

/* libfyaml 0.7.12 forgets a buffer when text follows a long quoted scalar. What we allocate
 * ourselves is not of that library; the unit tests see whether every document is closed. */
__attribute__((visibility("default"))) const char *
__lsan_default_suppressions(void);            /* NOLINT(bugprone-reserved-identifier,cert-*) */
const char *__lsan_default_suppressions(void) /* NOLINT(bugprone-reserved-identifier,cert-*) */
{
    return "leak:libfyaml.so\n";
}

static void read_function(struct st_document *doc)
{
    struct st_config_env env = {kit_triggers, kit_runtimes, "", doc->diag->out};
    struct st_function_text text = {.doc = doc};
    struct st_function_extras extras;
    struct st_function_config f;

    if (st_function_read(&f, &extras, &text, &env) != 0) {
        ST_ASSERT(doc->diag->errors > 0);
        return;
    }
    ST_ASSERT(doc->diag->errors == 0 && f.runtime != NULL && f.handler != NULL);
    for (size_t i = 0; i < f.trigger_count; i++)
        ST_ASSERT(f.triggers[i].kind != NULL && f.triggers[i].attributes != NULL &&
                  f.triggers[i].num_workers >= 0 && f.triggers[i].url != NULL);
}

static void read_platform(struct st_document *doc)
{
    struct st_platform_config p;

    if (st_platform_read(&p, doc) != 0)
        ST_ASSERT(doc->diag->errors > 0);
    else
        ST_ASSERT(p.health.listen_address != NULL && p.metrics.listen_address != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *nowhere;
    struct st_config_memory *memory;
    struct st_document doc;
    struct st_diag diag;

    if (nowhere == NULL)
        nowhere = fopen("/dev/null", "w");
    ST_ASSERT(nowhere != NULL);
    if (size == 0)
        return 0;
    memory = st_config_memory_new();
    st_diag_init(&diag, nowhere);
    if (st_document_parse(&doc, "f.yaml", (struct st_slice){(const char *)data + 1, size - 1},
                          memory, &diag) == 0) {
        if (data[0] == 'p')
            read_platform(&doc);
        else
            read_function(&doc);
        st_document_close(&doc);
    }
    st_diag_flush(&diag);
    st_config_memory_free(memory);
    return 0;
}
