/* A function's and a platform's configuration from any bytes, or a handler with a function's in its
 * comments; the first byte picks the file. */
#include "processor/config/inline.h"
#include "tests/support/config_kit.h"

/* libfyaml 0.7.12 forgets a buffer when text follows a long quoted scalar. What we allocate
 * ourselves is not of that library; the unit tests see whether every document is closed. */
__attribute__((visibility("default"))) const char *
__lsan_default_suppressions(void);            /* NOLINT(bugprone-reserved-identifier,cert-*) */
const char *__lsan_default_suppressions(void) /* NOLINT(bugprone-reserved-identifier,cert-*) */
{
    return "leak:libfyaml.so\n";
}

static void read_function(struct st_function_text *text)
{
    const struct st_diag *diag = text->doc->diag;
    struct st_config_env env = {kit_triggers, kit_runtimes, "",
                                diag->out,    kit_isolated, kit_outputs};
    struct st_function_extras extras;
    struct st_function_config f;

    if (st_function_read(&f, &extras, text, &env) != 0) {
        ST_ASSERT(diag->errors > 0);
        return;
    }
    ST_ASSERT(diag->errors == 0 && f.runtime != NULL && f.handler != NULL);
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

static void read_inline(const char *bytes, size_t len, struct st_config_memory *memory,
                        struct st_diag *diag)
{
    struct st_document doc;
    struct st_function_text text = {.doc = &doc, .runtime = &kit_scripts};
    char *copy = st_config_text(memory, (struct st_slice){bytes, len});

    if (st_inline_parse(&doc, &text.root, "f.scr", copy, len, "#", memory, diag) != 0) {
        ST_ASSERT(diag->errors > 0);
        return;
    }
    if (text.root.fyn == NULL)
        return;
    read_function(&text);
    st_document_close(&doc);
}

static void read_file(char which, struct st_slice bytes, struct st_config_memory *memory,
                      struct st_diag *diag)
{
    struct st_document doc;
    struct st_function_text text = {.doc = &doc};

    if (st_document_parse(&doc, "f.yaml", bytes, memory, diag) != 0)
        return;
    if (which == 'p')
        read_platform(&doc);
    else
        read_function(&text);
    st_document_close(&doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *nowhere;
    struct st_config_memory *memory;
    struct st_slice bytes;
    struct st_diag diag;

    if (nowhere == NULL)
        nowhere = fopen("/dev/null", "w");
    ST_ASSERT(nowhere != NULL);
    if (size == 0)
        return 0;
    memory = st_config_memory_new();
    st_diag_init(&diag, nowhere);
    bytes = (struct st_slice){(const char *)data + 1, size - 1};
    if (data[0] == 'i')
        read_inline(bytes.ptr, bytes.len, memory, &diag);
    else
        read_file((char)data[0], bytes, memory, &diag);
    st_diag_flush(&diag);
    st_config_memory_free(memory);
    return 0;
}
