/* What a good configuration becomes: values, defaults, and which files are read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "processor/core/log.h"
#include "tests/support/config_kit.h"

/* Loads text that must be fine, without a word. */
static void load(struct st_config *config, const char *yaml)
{
    char *told;
    int rc = kit_load_text(config, yaml, &told);

    if (rc != 0 || *told != '\0')
        fail_msg("%s\nreturned %d\n%s", yaml, rc, told);
    free(told);
}

static void load_args(struct st_config *config, const struct st_config_args *args)
{
    char *told;
    int rc = kit_load(config, args, &told);

    if (rc != 0 || *told != '\0')
        fail_msg("returned %d\n%s", rc, told);
    free(told);
}

static void refuse_args(const struct st_config_args *args, const char *expected)
{
    struct st_config config;
    char *told;
    int rc = kit_load(&config, args, &told);

    assert_int_not_equal(rc, 0);
    assert_string_equal(told, expected);
    assert_null(config.memory);
    free(told);
}

static const struct kit_attributes *attributes_of(const struct st_config *config, size_t trigger)
{
    return config->function.triggers[trigger].attributes;
}

static void test_full(void **state)
{
    struct st_config c;
    const struct st_function_config *f = &c.function;

    (void)state;
    load(&c, "apiVersion: nuclio.io/v1\n"
             "kind: NuclioFunction\n"
             "metadata:\n"
             "  name: full\n"
             "  namespace: lab\n"
             "  labels: {nuclio.io/project-name: moon, other: x}\n"
             "  annotations: {a: 5}\n"
             "spec:\n"
             "  handler: full.so\n"
             "  runtime: native:1.0\n"
             "  description: |\n"
             "    two\n"
             "    lines\n"
             "  version: 0x10\n"
             "  eventTimeout: 1m30s\n"
             "  env:\n"
             "  - {name: A, value: \"1\"}\n"
             "  - {name: B, value: '${A}'}\n"
             "  - {name: C, valueFrom: {fieldRef: {}}}\n"
             "  resources: {limits: {cpu: 1}}\n"
             "  build: {noCache: yes}\n"
             "  stator:\n"
             "    loops: 3\n"
             "    pin: always\n"
             "    isolation: none\n"
             "    queue: {events: 10, bytes: 1Mi}\n"
             "    bodyMemory: 64Mi\n"
             "    drainDelay: 2s\n"
             "  triggers:\n"
             "    web:\n"
             "      kind: http\n"
             "      numWorkers: 4\n"
             "      maxWorkers: 9\n"
             "      workerAvailabilityTimeoutMilliseconds: 0\n"
             "      workerAllocatorName: shared\n"
             "      workerTerminationTimeout: 1.5s\n"
             "      url: 127.0.0.1:0\n"
             "      attributes: {size: 2k, ingresses: {x: [1]}}\n"
             "    line:\n"
             "      kind: line\n"
             "      name: l1\n"
             "      maxWorkers: 2\n"
             "      workerAvailabilityTimeoutMilliseconds: -1\n");
    assert_string_equal(f->name, "full");
    assert_string_equal(f->namespace_, "lab");
    assert_string_equal(f->project, "moon");
    assert_string_equal(f->handler, "full.so");
    assert_ptr_equal(f->runtime, &kit_native);
    assert_string_equal(f->description, "two\nlines\n");
    assert_int_equal(f->version, 16);
    assert_int_equal(f->event_timeout_ns, 90 * ST_SEC);
    assert_int_equal(f->env_count, 3);
    assert_string_equal(f->env[0].value, "1");
    assert_string_equal(f->env[1].name, "B");
    assert_string_equal(f->env[1].value, "${A}");
    assert_null(f->env[2].value);
    assert_int_equal(f->own.loops, 3);
    assert_int_equal(f->own.pin, ST_PIN_ALWAYS);
    assert_int_equal(f->own.isolation, ST_ISOLATION_NONE);
    assert_int_equal(f->own.queue.events, 10);
    assert_int_equal(f->own.queue.bytes, 1 << 20);
    assert_int_equal(f->own.body_memory, 64 << 20);
    assert_int_equal(f->own.drain_delay_ns, 2 * ST_SEC);
    assert_int_equal(f->trigger_count, 2);
    assert_string_equal(f->triggers[0].name, "web");
    assert_ptr_equal(f->triggers[0].kind, &kit_http);
    assert_int_equal(f->triggers[0].num_workers, 4);
    assert_int_equal(f->triggers[0].wait_ns, 0);
    assert_string_equal(f->triggers[0].allocator_name, "shared");
    assert_int_equal(f->triggers[0].stop_ns, 1500 * ST_MSEC);
    assert_string_equal(f->triggers[0].url, "127.0.0.1:0");
    assert_int_equal(f->triggers[0].line, 30);
    assert_int_equal(f->triggers[0].column, 5);
    assert_int_equal(attributes_of(&c, 0)->size, 2000);
    assert_string_equal(f->triggers[1].name, "l1");
    assert_ptr_equal(f->triggers[1].kind, &kit_queue);
    assert_int_equal(f->triggers[1].num_workers, 2);
    assert_int_equal(f->triggers[1].wait_ns, 10 * ST_SEC);
    assert_non_null(f->triggers[1].attributes);
    assert_string_equal(c.file, "f.yaml");
    assert_string_equal(c.code_dir, ".");
    st_config_free(&c);
}

/* Another kind of the same name runs it in processes. */
static void test_isolation(void **state)
{
    struct st_config c;

    (void)state;
    load(&c, "spec: {runtime: native, handler: a.so, stator: {isolation: process}}\n");
    assert_ptr_equal(c.function.runtime, &kit_native_isolated);
    assert_string_equal(c.function.handler, "a.so");
    st_config_free(&c);
    load(&c, "spec: {runtime: native, handler: a.so, stator: {isolation: none}}\n");
    assert_ptr_equal(c.function.runtime, &kit_native);
    st_config_free(&c);
}

static void test_defaults(void **state)
{
    struct st_config c;
    const struct st_function_config *f = &c.function;
    const struct kit_attributes *a;

    (void)state;
    load(&c, "spec: {runtime: script, eventTimeout: '', triggers: {web: {kind: http}}}\n");
    assert_string_equal(f->name, strrchr(kit_root, '/') + 1);
    assert_string_equal(f->namespace_, "nuclio");
    assert_string_equal(f->project, "default");
    assert_string_equal(f->handler, "");
    assert_string_equal(f->description, "");
    assert_int_equal(f->version, -1);
    assert_int_equal(f->event_timeout_ns, 0);
    assert_int_equal(f->env_count, 0);
    assert_int_equal(f->own.loops, 0);
    assert_int_equal(f->own.pin, ST_PIN_AUTO);
    assert_int_equal(f->own.isolation, ST_ISOLATION_DEFAULT);
    assert_int_equal(f->own.queue.events, 8192);
    assert_int_equal(f->own.queue.bytes, 0);
    assert_int_equal(f->own.body_memory, 0);
    assert_int_equal(f->own.drain_delay_ns, 0);
    assert_int_equal(f->disable_default_http, -1);
    assert_string_equal(((struct kit_script *)f->runtime_attributes)->arguments, "-q");
    assert_int_equal(f->triggers[0].num_workers, 0);
    assert_int_equal(f->triggers[0].wait_ns, 10 * ST_SEC);
    assert_int_equal(f->triggers[0].stop_ns, 10 * ST_SEC);
    assert_string_equal(f->triggers[0].url, "");
    assert_string_equal(f->triggers[0].allocator_name, "");
    a = attributes_of(&c, 0);
    assert_int_equal(a->size, 16384);
    assert_int_equal(a->timeout_ns, 90 * ST_SEC);
    assert_int_equal(a->pause_ns, 250 * ST_MSEC);
    assert_int_equal(a->count, -3);
    assert_true(a->flag);
    assert_int_equal(a->mode, 1);
    assert_string_equal(a->text, "none");
    assert_null(a->password);
    assert_int_equal(a->brokers.count, 2);
    assert_string_equal(a->brokers.items[0], "a:1");
    assert_string_equal(a->brokers.items[1], "b:2");
    assert_int_equal(a->headers.count, 0);
    assert_int_equal(a->cors.origins.count, 1);
    assert_string_equal(a->cors.origins.items[0], "*");
    st_config_free(&c);
    st_config_free(&c); /* twice does no harm */
}

static void test_attribute_values(void **state)
{
    struct st_config c;
    const struct kit_attributes *a;

    (void)state;
    setenv("KIT_HOST", "broker", 1);
    kit_write("key", "s3cret\n");
    load(&c, "spec:\n"
             "  runtime: native\n"
             "  triggers:\n"
             "    web:\n"
             "      kind: http\n"
             "      attributes:\n"
             "        size: 0x800\n"
             "        timeout: 100ms\n"
             "        pause: 1e3\n"
             "        count: -1_000\n"
             "        flag: off\n"
             "        mode: off\n"
             "        text: !!str 5\n"
             "        password: ${file:key}\n"
             "        brokers: ['${KIT_HOST}:9092', '${KIT_HOST}2:${KIT_PORT:-9093}']\n"
             "        headers: {X-A: '1', x-a: b, y: '', z: }\n"
             "        cors: {enabled: y, allowOrigins: []}\n");
    a = attributes_of(&c, 0);
    assert_int_equal(a->size, 2048);
    assert_int_equal(a->timeout_ns, 100 * ST_MSEC);
    assert_int_equal(a->pause_ns, 1000 * ST_MSEC);
    assert_int_equal(a->count, -1000);
    assert_false(a->flag);
    assert_int_equal(a->mode, 2);
    assert_string_equal(a->text, "5");
    assert_string_equal(a->password, "s3cret");
    assert_int_equal(a->brokers.count, 2);
    assert_string_equal(a->brokers.items[0], "broker:9092");
    assert_string_equal(a->brokers.items[1], "broker2:9093");
    assert_int_equal(a->headers.count, 3);
    assert_string_equal(a->headers.items[0].name, "X-A");
    assert_string_equal(a->headers.items[1].value, "b");
    assert_string_equal(a->headers.items[2].value, "");
    assert_true(a->cors.enabled);
    assert_int_equal(a->cors.origins.count, 0);
    st_config_free(&c);
}

/* Expanded values are typed by what they became, quoted or not. */
static void test_typed_after_expansion(void **state)
{
    struct st_config c;

    (void)state;
    setenv("KIT_LOOPS", "5", 1);
    setenv("KIT_PORT", "8123", 1);
    load(&c, "spec:\n"
             "  runtime: native\n"
             "  description: ${KIT_LOOPS} $${x}\n"
             "  stator: {loops: \"${KIT_LOOPS}\", drainDelay: \"${KIT_NONE:-3}s\", pin: "
             "\"${KIT_NONE:-never}\", bodyMemory: \"${KIT_LOOPS}Mi\"}\n"
             "  triggers: {q: {kind: queue, url: \"${KIT_PORT}\"}}\n");
    assert_string_equal(c.function.description, "${KIT_LOOPS} $${x}");
    assert_int_equal(c.function.own.loops, 5);
    assert_int_equal(c.function.own.drain_delay_ns, 3 * ST_SEC);
    assert_int_equal(c.function.own.pin, ST_PIN_NEVER);
    assert_int_equal(c.function.own.body_memory, 5 << 20);
    assert_string_equal(c.function.triggers[0].url, "8123");
    st_config_free(&c);
}

static void test_merges(void **state)
{
    struct st_config c;
    const struct st_function_config *f = &c.function;

    (void)state;
    load(&c, "spec:\n"
             "  runtime: &rt native\n"
             "  description: *rt\n"
             "  build:\n"
             "    base: &base {kind: queue, numWorkers: 1, url: base}\n"
             "    more: &more {url: more, workerAllocatorName: shared}\n"
             "    deep: &deep {<<: *base, numWorkers: 7}\n"
             "  triggers:\n"
             "    a: {<<: *base, url: own}\n"
             "    b: {<<: [*more, *base]}\n"
             "    c: *base\n"
             "    d: {<<: *deep}\n"
             "    e: {numWorkers: 3, <<: {<<: *more, kind: queue}}\n");
    assert_string_equal(f->description, "native");
    assert_int_equal(f->trigger_count, 5);
    assert_string_equal(f->triggers[0].url, "own");
    assert_int_equal(f->triggers[0].num_workers, 1);
    assert_string_equal(f->triggers[1].url, "more");
    assert_string_equal(f->triggers[1].allocator_name, "shared");
    assert_int_equal(f->triggers[1].num_workers, 1);
    assert_string_equal(f->triggers[2].url, "base");
    assert_string_equal(f->triggers[2].name, "c");
    assert_int_equal(f->triggers[3].num_workers, 7);
    assert_string_equal(f->triggers[3].url, "base");
    assert_int_equal(f->triggers[4].num_workers, 3);
    assert_string_equal(f->triggers[4].url, "more");
    st_config_free(&c);
}

/* A key of its own wins over a merged one that is spelled in another case. */
static void test_merge_folds(void **state)
{
    struct st_config c;
    char *told;

    (void)state;
    assert_int_equal(kit_load_text(&c,
                                   "spec:\n"
                                   "  runtime: native\n"
                                   "  build: {x: &x {kind: queue, numworkers: 1}}\n"
                                   "  triggers: {a: {<<: *x, numWorkers: 2}}\n",
                                   &told),
                     0);
    assert_int_equal(c.function.triggers[0].num_workers, 2);
    assert_string_equal(told, "f.yaml:3:31: warning: spec.triggers.a.numworkers: the name of this "
                              "key is \"numWorkers\"\n");
    free(told);
    st_config_free(&c);
}

/* Aliases that multiply must not take for ever, and cycles must end. */
static void test_hostile(void **state)
{
    static const char *const bombs[] = {
        "a: &a {<<: [*b, *b, *b, *b, *b, *b, *b, *b]}\n"
        "b: &b {<<: [*c, *c, *c, *c, *c, *c, *c, *c]}\n"
        "c: &c {<<: [*d, *d, *d, *d, *d, *d, *d, *d]}\n"
        "d: &d {<<: [*e, *e, *e, *e, *e, *e, *e, *e]}\n"
        "e: &e {<<: [*f, *f, *f, *f, *f, *f, *f, *f]}\n"
        "f: &f {x: 1}\n"
        "spec: *a\n",
        "spec: &a {<<: *a, runtime: native}\n",
        "spec: &a {triggers: {x: *a, y: {triggers: *a}}, runtime: native}\n",
        "spec: {runtime: native, env: &e [*e, *e]}\n",
    };
    char deep[20001];

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(bombs); i++) {
        struct st_config c;
        char *told;

        assert_int_not_equal(kit_load_text(&c, bombs[i], &told), 0);
        assert_true(strlen(told) > 0);
        free(told);
    }
    memset(deep, '[', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = '\0';
    for (size_t i = 0; i < 2; i++) {
        struct st_config c;
        char *told;

        assert_int_not_equal(kit_load_text(&c, deep, &told), 0);
        free(told);
        deep[sizeof(deep) - 1 - (sizeof(deep) - 1) / 2] = '\0';
        memset(deep, '{', strlen(deep));
    }
}

static void test_forms(void **state)
{
    static const char *const texts[] = {
        "{\n\t\"spec\": {\n\t\t\"runtime\": \"native\",\n\t\"handler\": \"\\u0061\\/b\"\n\t}\n}\n",
        "\xef\xbb\xbfspec:\r\n  runtime: native\r\n  handler: a/b\r\n",
        "%YAML 1.1\n---\nspec: {runtime: native, handler: a/b}\n...\n",
        "--- # first\nspec:\n  runtime: 'native'\n  handler: >-\n    a/b\n---\n",
        "? spec\n: {? runtime : native, handler: a/b}\n",
        "spec: {runtime: native, handler: a/b, env: , triggers: ~, stator: null}\nmetadata:\n",
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(texts); i++) {
        struct st_config c;

        load(&c, texts[i]);
        assert_ptr_equal(c.function.runtime, &kit_native);
        assert_string_equal(c.function.handler, "a/b");
        st_config_free(&c);
    }
}

/* ---- which files ---- */

static const char plain[] = "spec: {runtime: native, handler: h.so}\n";

static void test_directory(void **state)
{
    struct st_config_args args = {.target = "code/hello"};
    struct st_config c;

    (void)state;
    kit_write("code/hello/function.yaml", plain);
    load_args(&c, &args);
    assert_string_equal(c.file, "code/hello/function.yaml");
    assert_string_equal(c.code_dir, "code/hello");
    assert_string_equal(c.function.name, "hello");
    assert_int_equal(c.function.trigger_count, 1);
    assert_string_equal(c.function.triggers[0].name, "default-http");
    assert_ptr_equal(c.function.triggers[0].kind, &kit_http);
    assert_string_equal(c.function.triggers[0].url, "");
    assert_int_equal(c.function.triggers[0].wait_ns, 10 * ST_SEC);
    assert_int_equal(attributes_of(&c, 0)->size, 16384);
    assert_false(c.platform.health.configured);
    st_config_free(&c);

    kit_write("other.yaml", "metadata: {name: other}\nspec: {runtime: native}\n");
    args.config = "other.yaml";
    load_args(&c, &args);
    assert_string_equal(c.function.name, "other");
    assert_string_equal(c.code_dir, "code/hello");
    st_config_free(&c);
}

static void test_handler_file(void **state)
{
    struct st_config_args args = {.target = "code/echo.v2.scr"};
    struct st_config c;

    (void)state;
    kit_write("code/echo.v2.scr", "");
    load_args(&c, &args);
    assert_string_equal(c.file, "");
    assert_string_equal(c.code_dir, "code");
    assert_string_equal(c.function.name, "echo");
    assert_string_equal(c.function.handler, "echo.v2.scr");
    assert_string_equal(c.function.namespace_, "nuclio");
    assert_string_equal(c.function.project, "default");
    assert_int_equal(c.function.own.queue.events, 8192);
    assert_ptr_equal(c.function.runtime, &kit_scripts);
    assert_string_equal(((struct kit_script *)c.function.runtime_attributes)->arguments, "-q");
    assert_int_equal(c.function.trigger_count, 1);
    st_config_free(&c);

    kit_write("h.so", "");
    args.target = "h.so";
    load_args(&c, &args);
    assert_string_equal(c.code_dir, ".");
    assert_ptr_equal(c.function.runtime, &kit_native);
    st_config_free(&c);
}

static void test_container(void **state)
{
    struct st_config_args args = {.target = NULL};
    char path[256];
    struct st_config c;

    (void)state;
    kit_write("etc/nuclio/config/processor/processor.yaml", plain);
    load_args(&c, &args);
    assert_int_equal(c.function.trigger_count, 0); /* the platform would have added it */
    assert_string_equal(c.code_dir, ".");
    assert_true(c.platform.health.configured);
    st_config_free(&c);

    kit_write("etc/nuclio/config/platform/platform.yaml", "healthCheck: {listenAddress: ':9'}\n");
    kit_write("opt/nuclio/h.so", "");
    load_args(&c, &args);
    snprintf(path, sizeof(path), "%s/opt/nuclio", kit_root);
    assert_string_equal(c.code_dir, path);
    assert_string_equal(c.platform.health.listen_address, ":9");
    st_config_free(&c);

    kit_write("p.yaml", "healthCheck: {listenAddress: ':10'}\n");
    args.platform_config = "p.yaml";
    load_args(&c, &args);
    assert_string_equal(c.platform.health.listen_address, ":10");
    st_config_free(&c);
}

/* The runtime's variable, where no argument names a folder. */
static void test_code_dir_variable(void **state)
{
    struct st_config_args args = {.config = "f.yaml"};
    struct st_config c;
    static const struct {
        const char *given, *expected;
    } cases[] = {{"code/sub", "code/sub"},
                 {"code/sub/plugin.so", "code/sub"}, /* a file in it */
                 {"nowhere", "nowhere"},
                 {"", NULL}}; /* as if it were not there */
    char container[256];

    (void)state;
    kit_write("f.yaml", plain);
    kit_write("code/sub/plugin.so", "");
    kit_write("opt/nuclio/h.so", "");
    snprintf(container, sizeof(container), "%s/opt/nuclio", kit_root);
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        setenv("STATOR_TEST_CODE", cases[i].given, 1);
        load_args(&c, &args);
        assert_string_equal(c.code_dir, cases[i].expected != NULL ? cases[i].expected : container);
        st_config_free(&c);
    }
    setenv("STATOR_TEST_CODE", "nowhere", 1);
    kit_write("f.yaml", "spec: {runtime: native, handler: h.so, env: [{name: STATOR_TEST_CODE, "
                        "value: code}]}\n");
    load_args(&c, &args); /* the function's own */
    assert_string_equal(c.code_dir, "code");
    st_config_free(&c);

    kit_write("code/function.yaml", plain);
    args = (struct st_config_args){.target = "code"};
    load_args(&c, &args); /* an argument wins */
    assert_string_equal(c.code_dir, "code");
    st_config_free(&c);

    kit_write("f.yaml", "spec: {runtime: script, handler: h}\n");
    args = (struct st_config_args){.config = "f.yaml"};
    load_args(&c, &args); /* has none */
    assert_string_equal(c.code_dir, container);
    st_config_free(&c);
    unsetenv("STATOR_TEST_CODE");
}

static void test_overrides(void **state)
{
    static const struct {
        const char *url, *expected;
    } cases[] = {{"", ":99"},
                 {":8080", ":99"},
                 {"127.0.0.1:8080", "127.0.0.1:99"},
                 {"[::1]:8080", "[::1]:99"},
                 {"unix:/tmp/x", ":99"}};
    struct st_config_args args = {.config = "f.yaml", .port = 99, .loops = 2, .workers = 3};
    struct st_config c;

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        char yaml[256];

        snprintf(yaml, sizeof(yaml),
                 "spec: {runtime: native, triggers: {q: {kind: queue, url: x}, w: {kind: http, "
                 "url: '%s', numWorkers: 1}}}\n",
                 cases[i].url);
        kit_write("f.yaml", yaml);
        load_args(&c, &args);
        assert_int_equal(c.function.trigger_count, 2);
        assert_string_equal(c.function.triggers[0].url, "x");
        assert_string_equal(c.function.triggers[1].url, cases[i].expected);
        assert_int_equal(c.function.triggers[0].num_workers, 3);
        assert_int_equal(c.function.triggers[1].num_workers, 3);
        assert_int_equal(c.function.own.loops, 2);
        st_config_free(&c);
    }
    kit_write("f.yaml", "spec: {runtime: native, triggers: {q: {kind: queue}}}\n");
    load_args(&c, &args);
    assert_int_equal(c.function.trigger_count, 2);
    assert_string_equal(c.function.triggers[0].name, "q");
    assert_string_equal(c.function.triggers[1].name, "default-http");
    assert_string_equal(c.function.triggers[1].url, ":99");
    assert_int_equal(c.function.triggers[1].num_workers, 3);
    st_config_free(&c);
}

/* spec.disableDefaultHTTPTrigger, and the platform's where the function has none. */
static void test_default_http(void **state)
{
    static const struct {
        const char *function, *platform;
        size_t triggers;
    } cases[] = {{"{runtime: native}", "{}", 1},
                 {"{runtime: native, disableDefaultHTTPTrigger: true}", "{}", 0},
                 {"{runtime: native}", "{disableDefaultHTTPTrigger: true}", 0},
                 {"{runtime: native, disableDefaultHTTPTrigger: false}",
                  "{disableDefaultHTTPTrigger: true}", 1},
                 {"{runtime: native, triggers: {q: {kind: queue}}}", "{}", 1}};
    struct st_config_args args = {.target = "f.yaml", .platform_config = "p.yaml"};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_config c;
        char yaml[256];

        snprintf(yaml, sizeof(yaml), "spec: %s\n", cases[i].function);
        kit_write("f.yaml", yaml);
        kit_write("p.yaml", cases[i].platform);
        load_args(&c, &args);
        assert_int_equal(c.function.trigger_count, cases[i].triggers);
        st_config_free(&c);
    }
}

static void test_refused_files(void **state)
{
    char missing[256];

    (void)state;
    kit_write("notes.txt", "x");
    kit_write("h.so", "");
    kit_write("big.yaml", "x: ");
    assert_int_equal(truncate("big.yaml", 2 << 20), 0);
    assert_int_equal(mkdir("dir.yaml", 0755), 0);
    refuse_args(&(struct st_config_args){.target = "nowhere"},
                "stator: nowhere can't be read: No such file or directory\n");
    refuse_args(&(struct st_config_args){.target = "nowhere.so"},
                "stator: nowhere.so can't be read: No such file or directory\n");
    refuse_args(&(struct st_config_args){.config = "nowhere.yaml"},
                "nowhere.yaml: can't be read: No such file or directory\n");
    refuse_args(&(struct st_config_args){.config = "dir.yaml"},
                "dir.yaml: can't be read: Is a directory\n");
    refuse_args(&(struct st_config_args){.config = "big.yaml"},
                "big.yaml: can't be read: File too large\n");
    refuse_args(&(struct st_config_args){.target = "."},
                "./function.yaml: can't be read: No such file or directory\n");
    refuse_args(&(struct st_config_args){.target = "notes.txt"},
                "stator: notes.txt is no file that this build runs, expected a directory with "
                "function.yaml, a .yaml file or a handler such as hello.so\n");
    refuse_args(&(struct st_config_args){.target = "h.so", .config = "f.yaml"},
                "stator: h.so is no directory, expected a directory beside --config\n");
    refuse_args(&(struct st_config_args){.target = "h.so", .platform_config = "nowhere.yaml"},
                "nowhere.yaml: can't be read: No such file or directory\n");
    snprintf(missing, sizeof(missing),
             "%s/etc/nuclio/config/processor/processor.yaml: can't be read: No such file or "
             "directory\n",
             kit_root);
    refuse_args(&(struct st_config_args){.target = NULL}, missing);
}

/* Both files are read before anything is refused. */
static void test_both_files(void **state)
{
    struct st_config_args args = {.config = "f.yaml", .platform_config = "p.yaml"};

    (void)state;
    kit_write("f.yaml", "spec: {runtime: natve}\n");
    kit_write("p.yaml", "webAdmin: {enabled: 5}\n");
    refuse_args(&args, "p.yaml:1:21: webAdmin.enabled: found the number 5, expected a boolean, for "
                       "example true\n"
                       "f.yaml:1:17: spec.runtime: found \"natve\", expected one of native, "
                       "script, for example \"native\"\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_defaults, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_attribute_values, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_typed_after_expansion, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_merges, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_merge_folds, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_hostile, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_forms, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_directory, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_handler_file, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_container, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_code_dir_variable, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_overrides, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_default_http, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_isolation, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_refused_files, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_both_files, kit_setup, kit_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
