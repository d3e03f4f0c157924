/* Configurations that are refused or warned of, with every word of what is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/config_kit.h"

struct fault_case {
    const char *yaml;
    const char *told;
};

#define SPEC "spec:\n  runtime: native\n"
#define HTTP SPEC "  triggers:\n    web:\n      kind: http\n"
#define ATTRIBUTES HTTP "      attributes:\n"

static void check(const struct fault_case *c, size_t count, bool refused)
{
    for (size_t i = 0; i < count; i++) {
        struct st_config config;
        char *told;
        int rc = kit_load_text(&config, c[i].yaml, &told);

        if ((rc != 0) != refused || strcmp(told, c[i].told) != 0)
            fail_msg("%s\nreturned %d\ntold     %sexpected %s", c[i].yaml, rc, told, c[i].told);
        if (rc != 0)
            assert_null(config.memory);
        st_config_free(&config);
        free(told);
    }
}

/* What stops at the first fault. */
static void test_syntax(void **state)
{
    static const struct fault_case cases[] = {
        {"", "f.yaml: found an empty file, expected a configuration\n"},
        {"# nothing\n", "f.yaml: found an empty file, expected a configuration\n"},
        {"a: [1\nb: 2\n", "f.yaml:3:1: not valid YAML: flow sequence without a closing bracket\n"},
        {"a: b: c\n",
         "f.yaml:1:5: not valid YAML: invalid nested block mapping on the same line\n"},
        {"a:\n\tb: 1\n",
         "f.yaml:2:1: not valid YAML: tab character may not be used as indentation\n"},
        {"a: @x\n", "f.yaml:1:4: not valid YAML: plain scalar cannot start with '@'\n"},
        {"{\"a\": 1,\n \"a\": 2}\n",
         "f.yaml:2:2: found the key \"a\" a second time, expected it once (first on line 1)\n"},
        {SPEC "  runtime: script\n",
         "f.yaml:3:3: found the key \"runtime\" a second time, expected "
         "it once (first on line 2)\n"},
        {HTTP "    web:\n      kind: queue\n",
         "f.yaml:6:5: found the key \"web\" a second time, expected it once (first on line 4)\n"},
        {"spec: {runtime: native}\n---\nspec: {}\n",
         "f.yaml: found a second document behind ---, expected one\n"},
        {"- spec\n",
         "f.yaml:1:1: found a list, expected an object, for example {spec: {runtime: native}}\n"},
        {"spec\n",
         "f.yaml:1:1: found text, expected an object, for example {spec: {runtime: native}}\n"},
        {"spec:\n  handler: a\xff\n", "f.yaml:2:13: found the byte 0xff, expected UTF-8 text\n"},
        {"spec: \x01\n", "f.yaml:1:7: found the byte 0x01, expected UTF-8 text\n"},
        {"spec:\n  runtime: *nowhere\n", "f.yaml:2:12: found the alias *nowhere, expected the name "
                                         "of an anchor of this file\n"},
        {"spec:\n  <<: 5\n  runtime: native\n",
         "f.yaml:2:7: <<: found something else, expected an object or a list of objects, for "
         "example *anchor\n"},
        {"spec:\n  [a]: 5\n  runtime: native\n",
         "f.yaml:1:1: found a list or an object as a key, expected text\n"},
    };

    (void)state;
    check(cases, ST_ARRAY_LEN(cases), true);
}

static void test_types(void **state)
{
    static const struct fault_case cases[] = {
        {SPEC "  eventTimeout: 5\n",
         "f.yaml:3:17: spec.eventTimeout: found the number 5, expected a "
         "duration of at least 1ns, for example \"5s\"\n"},
        {SPEC "  eventTimeout: soon\n",
         "f.yaml:3:17: spec.eventTimeout: found \"soon\", expected a "
         "duration of at least 1ns, for example \"30s\"\n"},
        {SPEC "  eventTimeout: -1s\n", "f.yaml:3:17: spec.eventTimeout: found \"-1s\", expected a "
                                       "duration of at least 1ns, for example \"30s\"\n"},
        {SPEC "  eventTimeout: 0s\n", "f.yaml:3:17: spec.eventTimeout: found \"0s\", expected a "
                                      "duration of at least 1ns, for example \"30s\"\n"},
        {SPEC "  eventTimeout: [1s]\n", "f.yaml:3:3: spec.eventTimeout: found a list, expected a "
                                        "duration of at least 1ns, for example \"30s\"\n"},
        {SPEC "  description: 5\n", "f.yaml:3:16: spec.description: found the number 5, expected "
                                    "text, for example \"5\"\n"},
        {SPEC "  description: yes\n", "f.yaml:3:16: spec.description: found the boolean yes, "
                                      "expected text, for example \"yes\"\n"},
        {SPEC "  description: {a: b}\n", "f.yaml:3:3: spec.description: found an object, expected "
                                         "text, for example \"text\"\n"},
        {SPEC "  description: \"a\\0b\"\n", "f.yaml:3:16: spec.description: found \"a\\x00b\", "
                                            "expected text, for example \"text\"\n"},
        {SPEC "  version: \"1\"\n", "f.yaml:3:12: spec.version: found \"1\" in quotes, expected a "
                                    "whole number, for example 1\n"},
        {SPEC "  version: latest\n",
         "f.yaml:3:12: spec.version: found \"latest\", expected a whole "
         "number, for example 1\n"},
        {SPEC "  version: 1.5\n",
         "f.yaml:3:12: spec.version: found the number 1.5, expected a whole "
         "number, for example 1\n"},
        {SPEC "  disableDefaultHTTPTrigger: \"yes\"\n",
         "f.yaml:3:30: spec.disableDefaultHTTPTrigger: found \"yes\" in quotes, expected a "
         "boolean, "
         "for example true\n"},
        {SPEC "  env: {A: b}\n",
         "f.yaml:3:3: spec.env: found an object, expected a list of objects, "
         "for example [{name: LEVEL, value: \"1\"}]\n"},
        {SPEC "  env:\n  - name: A\n    value: 5\n",
         "f.yaml:5:12: spec.env[0].value: found the "
         "number 5, expected text, for example \"5\"\n"},
        {SPEC "  env:\n  - A=5\n",
         "f.yaml:4:5: spec.env[0]: found \"A=5\", expected an object, for "
         "example [{name: LEVEL, value: \"1\"}]\n"},
        {SPEC "  env:\n  - value: x\n",
         "f.yaml:3:3: spec.env[0].name: found nothing, expected text, "
         "for example \"LEVEL\"\n"},
        {SPEC "  triggers: [a]\n", "f.yaml:3:3: spec.triggers: found a list, expected an object of "
                                   "objects, for example {http: {kind: http}}\n"},
        {"metadata:\n  name: 7\n" SPEC, "f.yaml:2:9: metadata.name: found the number 7, expected "
                                        "text, for example \"hello\"\n"},
        {"metadata:\n  labels:\n    nuclio.io/project-name: 7\n" SPEC,
         "f.yaml:3:29: metadata.labels[\"nuclio.io/project-name\"]: found the number 7, expected "
         "text, for example \"7\"\n"},
        {"metadata: [x]\n" SPEC, "f.yaml:1:1: metadata: found a list, expected an object, for "
                                 "example {name: hello}\n"},
        {"spec: 5\n", "f.yaml:1:7: spec: found the number 5, expected an object, for example "
                      "{runtime: native, handler: hello.so}\n"},
    };

    (void)state;
    check(cases, ST_ARRAY_LEN(cases), true);
}

static void test_missing(void **state)
{
    static const struct fault_case cases[] = {
        {"metadata: {name: x}\n",
         "f.yaml:1:1: spec: found nothing, expected an object, for example "
         "{runtime: native, handler: hello.so}\n"},
        {"spec:\n", "f.yaml:1:1: spec: found nothing, expected an object, for example {runtime: "
                    "native, handler: hello.so}\n"},
        {"spec:\n  handler: x\n",
         "f.yaml:1:1: spec.runtime: found nothing, expected text, for example \"native\"\n"},
        {"spec:\n  runtime:\n",
         "f.yaml:2:3: spec.runtime: found nothing, expected text, for example \"native\"\n"},
        {SPEC "  triggers:\n    web:\n",
         "f.yaml:4:5: spec.triggers.web: found nothing, expected an "
         "object, for example {http: {kind: http}}\n"},
        {SPEC "  triggers:\n    web: {}\n", "f.yaml:4:5: spec.triggers.web.kind: found nothing, "
                                            "expected text, for example \"http\"\n"},
    };

    (void)state;
    check(cases, ST_ARRAY_LEN(cases), true);
}

static void test_kinds(void **state)
{
    static const struct fault_case cases[] = {
        {"spec:\n  runtime: natve\n", "f.yaml:2:12: spec.runtime: found \"natve\", expected one of "
                                      "native, script, for example \"native\"\n"},
        {"spec:\n  runtime: python:3.11\n",
         "f.yaml:2:12: spec.runtime: found \"python\", which is not supported by this build yet, "
         "expected one of native, script, for example \"native\"\n"},
        {SPEC "  triggers: {t: {kind: cron}}\n",
         "f.yaml:3:24: spec.triggers.t.kind: found \"cron\", which is not supported by this build "
         "yet, expected one of http, queue, for example \"http\"\n"},
        {SPEC "  triggers: {t: {kind: Queue}}\n",
         "f.yaml:3:24: spec.triggers.t.kind: found \"Queue\", expected one of http, queue, for "
         "example \"queue\"\n"},
        {SPEC "  triggers:\n    a: {kind: http}\n    b: {kind: http}\n",
         "f.yaml:5:15: spec.triggers.b.kind: found a second http trigger, expected one (the first "
         "is \"a\")\n"},
        {SPEC "  triggers:\n    a: {kind: queue}\n    b: {kind: queue, name: a}\n",
         "f.yaml:5:28: spec.triggers.b.name: found \"a\" a second time, expected another name\n"},
        {HTTP "      batch: {mode: enable}\n", "f.yaml:6:21: spec.triggers.web.batch.mode: found "
                                               "\"enable\", which runtime native does not "
                                               "support, expected disable\n"},
        {SPEC "  triggers:\n    a: {kind: http, workerAllocatorName: p, batch: {batchSize: 5}}\n"
              "    b: {kind: queue, workerAllocatorName: p, batch: {mode: enable}}\n",
         "f.yaml:5:60: spec.triggers.b.batch.mode: found \"enable\", which runtime native does not "
         "support, expected disable\n"
         "f.yaml:5:60: spec.triggers.b.batch: found another one than trigger \"a\" has, expected "
         "the same, because they share the workers \"p\"\n"},
        {"spec:\n  runtime: script\n  stator: {isolation: process}\n",
         "f.yaml:3:23: spec.stator.isolation: found \"process\", which this build does not support "
         "yet for runtime script, expected none\n"},
        {SPEC "  stator: {isolation: procces}\n", "f.yaml:3:23: spec.stator.isolation: found "
                                                  "\"procces\", expected one of none, process, for "
                                                  "example process\n"},
    };

    (void)state;
    check(cases, ST_ARRAY_LEN(cases), true);
}

static void test_triggers(void **state)
{
    static const struct fault_case cases[] = {
        {HTTP "      numWorkers: -1\n",
         "f.yaml:6:19: spec.triggers.web.numWorkers: found the number -1, expected a whole number "
         "from 0 to 100000, for example 4\n"},
        {HTTP "      numWorkers: 100001\n",
         "f.yaml:6:19: spec.triggers.web.numWorkers: found the number 100001, expected a whole "
         "number from 0 to 100000, for example 4\n"},
        {HTTP "      numWorkers: 1e19\n", "f.yaml:6:19: spec.triggers.web.numWorkers: found the "
                                          "number 1e19, expected a whole number "
                                          "from 0 to 100000, for example 4\n"},
        {HTTP "      workerAvailabilityTimeoutMilliseconds: 10s\n",
         "f.yaml:6:46: spec.triggers.web.workerAvailabilityTimeoutMilliseconds: found \"10s\", "
         "expected a number of milliseconds from 0 to 86400000, for example 10000\n"},
        {HTTP "      workerTerminationTimeout: 10\n",
         "f.yaml:6:33: spec.triggers.web.workerTerminationTimeout: found the number 10, expected a "
         "duration from 0 to 24h, for example \"10s\"\n"},
        {HTTP "      workerTerminationTimeout: 25h\n",
         "f.yaml:6:33: spec.triggers.web.workerTerminationTimeout: found \"25h\", expected a "
         "duration from 0 to 24h, for example \"10s\"\n"},
        {HTTP "      url: 8080\n", "f.yaml:6:12: spec.triggers.web.url: found the number 8080, "
                                   "expected text, for example \":8080\"\n"},
        {HTTP "      attributes: 5\n",
         "f.yaml:6:19: spec.triggers.web.attributes: found the number "
         "5, expected an object, for example {key: value}\n"},
        {HTTP "      numWorkers: 1\n      numworkers: 2\n",
         "f.yaml:7:7: warning: spec.triggers.web.numworkers: the name of this key is "
         "\"numWorkers\"\n"
         "f.yaml:7:7: spec.triggers.web.numworkers: found \"numWorkers\" a second time, expected "
         "it "
         "once (first on line 6)\n"},
    };

    (void)state;
    check(cases, ST_ARRAY_LEN(cases), true);
}

static void test_attributes(void **state)
{
    static const struct fault_case cases[] = {
        {ATTRIBUTES "        size: 1Kb\n",
         "f.yaml:7:15: spec.triggers.web.attributes.size: found \"1Kb\", expected a size in bytes "
         "from 1024 to 1073741824, for example 64Mi\n"},
        {ATTRIBUTES "        size: -5\n",
         "f.yaml:7:15: spec.triggers.web.attributes.size: found the number -5, expected a size in "
         "bytes from 1024 to 1073741824, for example 64Mi\n"},
        {ATTRIBUTES "        size: 512\n",
         "f.yaml:7:15: spec.triggers.web.attributes.size: found the number 512, expected a size in "
         "bytes from 1024 to 1073741824, for example 64Mi\n"},
        {ATTRIBUTES "        flag: 1\n",
         "f.yaml:7:15: spec.triggers.web.attributes.flag: found the "
         "number 1, expected a boolean, for example true\n"},
        {ATTRIBUTES "        mode: asink\n",
         "f.yaml:7:15: spec.triggers.web.attributes.mode: found \"asink\", expected one of sync, "
         "async, off, for example async\n"},
        {ATTRIBUTES "        pause: 1.5\n",
         "f.yaml:7:16: spec.triggers.web.attributes.pause: found the number 1.5, expected a number "
         "of milliseconds, for example 10000\n"},
        {ATTRIBUTES "        pause: 99999999999999999\n",
         "f.yaml:7:16: spec.triggers.web.attributes.pause: found the number 99999999999999999, "
         "expected a number of milliseconds, for example 10000\n"},
        {ATTRIBUTES "        brokers: a:1\n",
         "f.yaml:7:18: spec.triggers.web.attributes.brokers: found \"a:1\", expected a list of "
         "texts, for example [a, b]\n"},
        {ATTRIBUTES "        brokers: [a, 5, [b], ]\n",
         "f.yaml:7:9: spec.triggers.web.attributes.brokers[2]: found a list, expected text, for "
         "example \"text\"\n"
         "f.yaml:7:22: spec.triggers.web.attributes.brokers[1]: found the number 5, expected text, "
         "for example \"5\"\n"},
        {ATTRIBUTES "        headers: {a: b, c: 5}\n",
         "f.yaml:7:28: spec.triggers.web.attributes.headers.c: found the number 5, expected text, "
         "for example \"5\"\n"},
        {ATTRIBUTES "        cors: {enabled: 7}\n",
         "f.yaml:7:25: spec.triggers.web.attributes.cors.enabled: found the number 7, expected a "
         "boolean, for example true\n"},
        {ATTRIBUTES "        password: 123456\n",
         "f.yaml:7:19: spec.triggers.web.attributes.password: found a number, expected text, for "
         "example \"text\"\n"},
        {ATTRIBUTES "        text: ${X}\n        size: ${X}\n",
         "f.yaml:8:15: spec.triggers.web.attributes.size: found \"${X}\", expected a size in bytes "
         "from 1024 to 1073741824, for example 64Mi\n"},
    };

    (void)state;
    check(cases, ST_ARRAY_LEN(cases), true);
}

static void test_expansion_faults(void **state)
{
    static const struct fault_case cases[] = {
        {SPEC "  stator: {loops: \"${KIT_NONE}\"}\n",
         "f.yaml:3:19: spec.stator.loops: found ${KIT_NONE}, which is not set in the environment, "
         "expected a variable that is, or a default, for example ${KIT_NONE:-text}\n"},
        {SPEC "  stator:\n    loops: ${KIT_WORD}\n",
         "f.yaml:4:12: spec.stator.loops: found \"many\" (from ${KIT_WORD}), expected a whole "
         "number "
         "from 0 to 64, for example 2\n"},
        {SPEC "  stator:\n    loops: ${file:key}\n",
         "f.yaml:4:12: spec.stator.loops: found some text, expected a whole number from 0 to 64, "
         "for "
         "example 2\n"},
        {SPEC "  stator:\n    drainDelay: ${KIT_NUMBER}\n",
         "f.yaml:4:17: spec.stator.drainDelay: found \"3\" (from ${KIT_NUMBER}), expected a "
         "duration "
         "from 0 to 1h, for example \"5s\"\n"},
        {HTTP "      url: ${a b}\n",
         "f.yaml:6:12: spec.triggers.web.url: found ${a b}, expected the name of a variable or a "
         "file, for example ${PORT:-8080} or ${file:/run/secrets/key}; $${ stands for ${ itself\n"},
        {HTTP "      url: ${file:/nowhere}\n",
         "f.yaml:6:12: spec.triggers.web.url: found ${file:/nowhere}, which can't be read (No such "
         "file or directory), expected a readable file\n"},
        {HTTP "      url: \"${OPEN\"\n",
         "f.yaml:6:12: spec.triggers.web.url: found ${ without }, expected both, for example "
         "${PORT:-8080}; $${ stands for ${ itself\n"},
    };

    (void)state;
    unsetenv("KIT_NONE");
    setenv("KIT_WORD", "many", 1);
    setenv("KIT_NUMBER", "3", 1);
    kit_write("key", "a secret\n");
    check(cases, ST_ARRAY_LEN(cases), true);
}

/* All faults of a file at once, in its order. */
static void test_all_at_once(void **state)
{
    static const struct fault_case cases[] = {
        {"metadata: {name: 5}\n"
         "spec:\n"
         "  runtime: ruby\n"
         "  eventTimeout: 5\n"
         "  hander: x\n"
         "  triggers:\n"
         "    a: {kind: http, numWorkers: x, attributes: {flag: 3}}\n"
         "    b: {kind: nothing}\n"
         "    c: {url: x}\n",
         "f.yaml:1:18: metadata.name: found the number 5, expected text, for example \"hello\"\n"
         "f.yaml:3:12: spec.runtime: found \"ruby\", which is not supported by this build yet, "
         "expected one of native, script, for example \"native\"\n"
         "f.yaml:4:17: spec.eventTimeout: found the number 5, expected a duration of at least 1ns, "
         "for example \"5s\"\n"
         "f.yaml:5:3: warning: spec.hander: unknown key, did you mean \"handler\"? It is ignored\n"
         "f.yaml:7:33: spec.triggers.a.numWorkers: found \"x\", expected a whole number from 0 to "
         "100000, for example 4\n"
         "f.yaml:7:55: spec.triggers.a.attributes.flag: found the number 3, expected a boolean, "
         "for "
         "example true\n"
         "f.yaml:8:15: spec.triggers.b.kind: found \"nothing\", expected one of http, queue, for "
         "example \"http\"\n"
         "f.yaml:9:5: spec.triggers.c.kind: found nothing, expected text, for example \"http\"\n"},
    };

    (void)state;
    check(cases, ST_ARRAY_LEN(cases), true);
}

/* What is told and goes on. */
static void test_warnings(void **state)
{
    static const struct fault_case cases[] = {
        {SPEC "  Handler: x\n",
         "f.yaml:3:3: warning: spec.Handler: the name of this key is \"handler\"\n"},
        {SPEC
         "  triggers:\n    a: {kind: http, numworkers: 1}\n    b: {kind: queue, numworkers: 2}\n",
         "f.yaml:4:21: warning: spec.triggers.a.numworkers: the name of this key is "
         "\"numWorkers\"\n"},
        {SPEC "  zzzzz: 1\n", "f.yaml:3:3: warning: spec.zzzzz: unknown key, it is ignored\n"},
        {SPEC "  trigers: {}\n", "f.yaml:3:3: warning: spec.trigers: unknown key, did you mean "
                                 "\"triggers\"? It is ignored\n"},
        {"specs: {}\n" SPEC,
         "f.yaml:1:1: warning: specs: unknown key, did you mean \"spec\"? It is ignored\n"},
        {ATTRIBUTES "        SIZE: 2048\n        sze: 5\n        Ingresses: {}\n",
         "f.yaml:7:9: warning: spec.triggers.web.attributes.SIZE: the name of this key is "
         "\"size\"\n"
         "f.yaml:8:9: warning: spec.triggers.web.attributes.sze: unknown key, did you mean "
         "\"size\"? It is ignored\n"
         "f.yaml:9:9: warning: spec.triggers.web.attributes.Ingresses: the name of this key is "
         "\"ingresses\"\n"},
        {SPEC "  runtimeAttributes: {arguments: x}\n",
         "f.yaml:3:23: warning: spec.runtimeAttributes.arguments: unknown key, it is ignored\n"},
    };

    (void)state;
    check(cases, ST_ARRAY_LEN(cases), false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_syntax),           cmocka_unit_test(test_types),
        cmocka_unit_test(test_missing),          cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_triggers),         cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_expansion_faults), cmocka_unit_test(test_all_at_once),
        cmocka_unit_test(test_warnings),
    };

    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
