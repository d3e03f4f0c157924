/* HTTP/1 messages: what is read, refused and written, however the input is split. */
#include "tests/unit/test_net_http1.h"

#include <sys/socket.h>

#define OK_KEEP "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"

/* ---- Every split of an input ---- */

struct row {
    const char *name, *input;
    size_t len;           /* of the input; 0: up to its NUL */
    const char *requests; /* as h1_rig.requests */
    const char *replies;  /* as h1_replies, without 100 Continue; NULL: a refusal only */
    unsigned refusal;     /* status of a last reply that refuses; 0: none */
    bool closes;          /* the server closes after the replies */
};

/* The input arrives in pieces that end at `cut` and at the end; cut 0: byte by byte. */
static void feed(const struct row *row, size_t len, size_t cut)
{
    if (cut != 0) {
        h1_send(&rig, row->input, cut);
        h1_send(&rig, row->input + cut, len - cut);
        return;
    }
    for (size_t i = 0; i < len; i++)
        h1_send(&rig, row->input + i, 1);
}

static bool is_as_wanted(const struct row *row, size_t cut, const char *how)
{
    const char *refusal = row->refusal != 0 ? h1_refusal(row->refusal) : "";
    const char *replies = row->replies != NULL ? row->replies : "";
    const char *requests = row->requests != NULL ? row->requests : "";
    bool closes = row->closes || row->refusal != 0;
    char want[4096];

    snprintf(want, sizeof want, "%s%s", replies, refusal);
    h1_replies(&rig, NULL);
    h1_strip_continue(rig.replies);
    if (strcmp(rig.requests, requests) == 0 && strcmp(rig.replies, want) == 0 &&
        rig.client.eof == closes && rig.client.error == 0)
        return true;
    print_error(
        "\n--- %s, cut at %zu, %s: the requests are\n%snot\n%sthe replies are\n%s\nnot\n%s\n"
        "eof %d, error %d\n",
        row->name, cut, how, rig.requests, requests, rig.replies, want, rig.client.eof,
        rig.client.error);
    return false;
}

static void start_over(void)
{
    if (rig.client.fd >= 0)
        net_client_close(&rig.client, false);
    h1_run(&rig);
    assert_int_equal(rig.server.conns.open, 0);
    assert_int_equal(rig.begun, rig.ended);
    free(rig.requests);
    rig.requests = strdup("");
    rig.requests_len = 0;
    rig.count = 0;
}

/* Answers at once, then with all answers after the last byte, the last request first. */
static bool check_row(const struct row *row)
{
    bool ok = true;

    size_t len = row->len != 0 ? row->len : strlen(row->input), step = len / 300 + 1;

    for (int late = 0; late < 2; late++) {
        rig.on_request = late != 0 ? h1_keep : NULL;
        for (size_t cut = 0; cut <= len && ok; cut += cut == 0 ? len % step + 1 : step) {
            start_over();
            h1_connect(&rig);
            feed(row, len, cut);
            if (late != 0)
                assert_int_equal(rig.client.eof && rig.count > 0, false);
            for (unsigned i = rig.count; late != 0 && i-- > 0;)
                h1_ok(&rig, i, "ok");
            ok = is_as_wanted(row, cut, late != 0 ? "answered late" : "answered at once");
        }
    }
    start_over();
    rig.on_request = NULL;
    return ok;
}

static void check_rows(const struct row *rows, size_t n)
{
    unsigned wrong = 0;

    for (size_t i = 0; i < n; i++)
        wrong += !check_row(&rows[i]);
    assert_int_equal(wrong, 0);
}

/* ---- What is taken ---- */

#define HOST "Host: a\r\n"
#define CHUNKED "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
#define BODY_5 "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
#define BAD(what, text, status)                                                 \
    {                                                                           \
        .name = what, .input = text, .len = sizeof(text) - 1, .refusal = status \
    }

static const struct row good[] = {
    {.name = "the least",
     .input = "GET / HTTP/1.1\r\nHost:\r\n\r\n",
     .requests = "GET / 1.1 {Host=} \n",
     .replies = OK_REPLY},
    {.name = "white space around values",
     .input = "GET /a HTTP/1.1\r\nHost:a\r\nA: \t b c \t\r\nB:\t\r\nC:  \r\nD:d\r\n\r\n",
     .requests = "GET /a 1.1 {Host=a}{A=b c}{B=}{C=}{D=d} \n",
     .replies = OK_REPLY},
    {.name = "repeated headers, odd names and values",
     .input =
         "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\n!#$%&'*+-.^_`|~9z: \x80\xff\"\r\n\r\n",
     .requests = "GET / 1.1 {Host=a}{X-A=1}{x-a=2}{!#$%&'*+-.^_`|~9z=\x80\xff\"} \n",
     .replies = OK_REPLY},
    {.name = "body by length",
     .input = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
     .requests = "POST /p 1.1 {Host=a}{Content-Length=11} hello world\n",
     .replies = OK_REPLY},
    {.name = "length 0, with zeros",
     .input = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 000\r\n\r\n",
     .requests = "POST /p 1.1 {Host=a}{Content-Length=000} \n",
     .replies = OK_REPLY},
    {.name = "body of a GET and of a DELETE",
     .input = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabDELETE / HTTP/1.1\r\n"
              "Host: a\r\nContent-Length: 2\r\n\r\ncd",
     .requests = "GET / 1.1 {Host=a}{Content-Length=2} ab\n"
                 "DELETE / 1.1 {Host=a}{Content-Length=2} cd\n",
     .replies = OK_REPLY OK_REPLY},
    {.name = "a body that looks like a request",
     .input = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 27\r\n\r\nGET /no HTTP/1.1\r\nHost: "
              "a\r\nGET /yes HTTP/1.1\r\nHost: a\r\n\r\n",
     .requests = "POST / 1.1 {Host=a}{Content-Length=27} GET /no HTTP/1.1\r\nHost: a\r\n\n"
                 "GET /yes 1.1 {Host=a} \n",
     .replies = OK_REPLY OK_REPLY},
    {.name = "chunks",
     .input = "PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
              "5\r\nhello\r\n1\r\n \r\n05\r\nworld\r\n0\r\n\r\n",
     .requests = "PUT /c 1.1 {Host=a}{Transfer-Encoding=chunked} hello world\n",
     .replies = OK_REPLY},
    {.name = "no chunk but the last",
     .input = "PUT /c HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\n\r\n000\r\n\r\n",
     .requests = "PUT /c 1.1 {Host=a}{transfer-encoding=CHUNKED} \n",
     .replies = OK_REPLY},
    {.name = "chunk extensions and trailers are dropped",
     .input =
         "PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
         "A;x\r\n0123456789\r\na;y=\"2 3\";x=1\r\nabcdefghij\r\n0;z=9\r\nX-T: 1\r\nX-U:\r\n\r\n"
         "GET /next HTTP/1.1\r\nHost: a\r\n\r\n",
     .requests = "PUT /c 1.1 {Host=a}{Transfer-Encoding=chunked} 0123456789abcdefghij\n"
                 "GET /next 1.1 {Host=a} \n",
     .replies = OK_REPLY OK_REPLY},
    {.name = "trailers that would mean something in a head",
     .input = CHUNKED "0\r\nContent-Length: 99999999\r\nConnection: close\r\nHost: b\r\nExpect: x"
                      "\r\nUpgrade: x\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\n\r\n" CHUNKED
                      "1\r\nx\r\n0\r\n\r\n",
     .requests = "POST / 1.1 {Host=a}{Transfer-Encoding=chunked} \nPOST /2 1.1 {Host=a} \n"
                 "POST / 1.1 {Host=a}{Transfer-Encoding=chunked} x\n",
     .replies = OK_REPLY OK_REPLY OK_REPLY},
    {.name = "pipeline",
     .input = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: "
              "3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
     .requests = "GET /1 1.1 {Host=a} \nPOST /2 1.1 {Host=a}{Content-Length=3} abc\n"
                 "GET /3 1.1 {Host=a} \n",
     .replies = OK_REPLY OK_REPLY OK_REPLY},
    {.name = "the same head again and again",
     .input = "POST /m HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1"
              "POST /m HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n2"
              "POST /m HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n3"
              "POST /n HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n4"
              "POST /m HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n5"
              "POST /m HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n67"
              "POST /m HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n89",
     .requests =
         "POST /m 1.1 {Host=a}{Content-Length=1} 1\nPOST /m 1.1 {Host=a}{Content-Length=1} 2\n"
         "POST /m 1.1 {Host=a}{Content-Length=1} 3\nPOST /n 1.1 {Host=a}{Content-Length=1} 4\n"
         "POST /m 1.1 {Host=a}{Content-Length=1} 5\nPOST /m 1.1 {Host=a}{Content-Length=2} 67\n"
         "POST /m 1.1 {Host=a}{Content-Length=2} 89\n",
     .replies = OK_REPLY OK_REPLY OK_REPLY OK_REPLY OK_REPLY OK_REPLY OK_REPLY},
    {.name = "a kept head, then one that begins like it",
     .input = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
              "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"
              "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
     .requests = "GET / 1.1 {Host=a} \nGET / 1.1 {Host=a} \nGET / 1.1 {Host=a} \n"
                 "GET / 1.1 {Host=a}{X=y} \nGET / 1.1 {Host=a} \n",
     .replies = OK_REPLY OK_REPLY OK_REPLY OK_REPLY OK_REPLY},
    {.name = "empty lines before requests",
     .input = "\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n\r\n"
              "GET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
     .requests = "GET /1 1.1 {Host=a} \nGET /2 1.1 {Host=a} \nGET /2 1.1 {Host=a} \n"
                 "GET /2 1.1 {Host=a} \n",
     .replies = OK_REPLY OK_REPLY OK_REPLY OK_REPLY},
    {.name = "HEAD has the length and no body",
     .input = "HEAD /h HTTP/1.1\r\nHost: a\r\n\r\nGET /g HTTP/1.1\r\nHost: a\r\n\r\n",
     .requests = "HEAD /h 1.1 {Host=a} \nGET /g 1.1 {Host=a} \n",
     .replies = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" OK_REPLY},
    {.name = "1.0 closes",
     .input = "GET / HTTP/1.0\r\n\r\nGET /no HTTP/1.0\r\n\r\n",
     .requests = "GET / 1.0  \n",
     .replies = OK_CLOSE,
     .closes = true},
    {.name = "1.0 keeps alive when asked to",
     .input = "GET /1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nPOST /2 HTTP/1.0\r\nHost: a\r\n"
              "Connection: keep-alive\r\nContent-Length: 2\r\n\r\nabGET /3 HTTP/1.0\r\n\r\n",
     .requests = "GET /1 1.0 {Connection=Keep-Alive} \n"
                 "POST /2 1.0 {Host=a}{Connection=keep-alive}{Content-Length=2} ab\nGET /3 1.0  \n",
     .replies = OK_KEEP OK_KEEP OK_CLOSE,
     .closes = true},
    {.name = "1.0 and Expect: no such thing",
     .input = "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
     .requests = "POST / 1.0 {Expect=100-continue}{Content-Length=1} x\n",
     .replies = OK_CLOSE,
     .closes = true},
    {.name = "close",
     .input = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: "
              "close\r\n\r\nGET /no HTTP/1.1\r\nHost: a\r\n\r\n",
     .requests = "GET /1 1.1 {Host=a} \nGET /2 1.1 {Host=a}{Connection=close} \n",
     .replies = OK_REPLY OK_CLOSE,
     .closes = true},
    {.name = "close in a list, and junk behind it",
     .input = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close, y\r\n\r\n\x16\x03\x01junk",
     .requests = "GET / 1.1 {Host=a}{Connection=x, Close, y} \n",
     .replies = OK_CLOSE,
     .closes = true},
    {.name = "absolute form, and the asterisk",
     .input =
         "GET http://b:80/p?q HTTP/1.1\r\nHost: a\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
     .requests = "GET http://b:80/p?q 1.1 {Host=a} \nOPTIONS * 1.1 {Host=a} \n",
     .replies = OK_REPLY OK_REPLY},
    {.name = "Upgrade is an ordinary header",
     .input = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
              "HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 2\r\n\r\nab"
              "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
     .requests = "GET / 1.1 {Host=a}{Connection=Upgrade, HTTP2-Settings}{Upgrade=h2c}"
                 "{HTTP2-Settings=AAMAAABkAAQAAP__}{Content-Length=2} ab\nGET /2 1.1 {Host=a} \n",
     .replies = OK_REPLY OK_REPLY},
    {.name = "Upgrade without a body",
     .input = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
              "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
     .requests =
         "GET / 1.1 {Host=a}{Connection=Upgrade}{Upgrade=websocket} \nGET /2 1.1 {Host=a} \n",
     .replies = OK_REPLY OK_REPLY},
    {.name = "hosts of every form",
     .input = "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\nGET / HTTP/1.1\r\nHost: a-b_c.d:1\r\n\r\n"
              "GET / HTTP/1.1\r\nHost: %41!$&'()*+,;=~\r\n\r\n",
     .requests = "GET / 1.1 {Host=[::1]:8080} \nGET / 1.1 {Host=a-b_c.d:1} \n"
                 "GET / 1.1 {Host=%41!$&'()*+,;=~} \n",
     .replies = OK_REPLY OK_REPLY OK_REPLY},
    {.name = "Expect: the body follows by itself",
     .input = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\nhello"
              "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
     .requests = "POST / 1.1 {Host=a}{Expect=100-Continue}{Content-Length=5} hello\n"
                 "GET /2 1.1 {Host=a} \n",
     .replies = OK_REPLY OK_REPLY},
    {.name = "a head that ends early",
     .input = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost",
     .requests = "GET / 1.1 {Host=a} \n",
     .replies = OK_REPLY},
};

static void test_good(void **state)
{
    (void)state;
    check_rows(good, ST_ARRAY_LEN(good));
}

/* ---- What is refused ---- */

static const struct row bad[] = {
    /* The request line */
    BAD("two spaces before the target", "GET  / HTTP/1.1\r\n" HOST "\r\n", 400),
    BAD("two spaces behind the target", "GET /  HTTP/1.1\r\n" HOST "\r\n", 400),
    BAD("a tab before the target", "GET\t/ HTTP/1.1\r\n" HOST "\r\n", 400),
    BAD("a space before the method", " GET / HTTP/1.1\r\n" HOST "\r\n", 400),
    BAD("a space behind the version", "GET / HTTP/1.1 \r\n" HOST "\r\n", 400),
    BAD("no target", "GET HTTP/1.1\r\n" HOST "\r\n", 400),
    BAD("empty target", "GET  HTTP/1.1\r\n" HOST "\r\n", 400),
    BAD("no version", "GET /\r\n" HOST "\r\n", 400),
    BAD("version 0.9", "GET / HTTP/0.9\r\n" HOST "\r\n", 400),
    BAD("version 1.2", "GET / HTTP/1.2\r\n" HOST "\r\n", 400),
    BAD("version 2.0", "GET / HTTP/2.0\r\n" HOST "\r\n", 400),
    BAD("version 1.10", "GET / HTTP/1.10\r\n" HOST "\r\n", 400),
    BAD("version in lower case", "GET / http/1.1\r\n" HOST "\r\n", 400),
    BAD("another protocol", "GET / HTCPCP/1.1\r\n" HOST "\r\n", 400),
    BAD("bare LF behind the request line", "GET / HTTP/1.1\n" HOST "\r\n", 400),
    BAD("bare CR in the request line", "GET / HTTP/1.1\rX\r\n" HOST "\r\n", 400),
    BAD("CR before the request line", "\rGET / HTTP/1.1\r\n" HOST "\r\n", 400),
    BAD("NUL in the target", "GET /\0a HTTP/1.1\r\n" HOST "\r\n", 400),
    BAD("byte above 0x7f in the target", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", 400),
    BAD("tab in the target", "GET /a\tb HTTP/1.1\r\n" HOST "\r\n", 400),
    BAD("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    BAD("a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    BAD("a method that is no token", "GE/T / HTTP/1.1\r\n" HOST "\r\n", 400),
    BAD("a method nobody knows", "BREW /pot HTTP/1.1\r\n" HOST "\r\n", 501),
    BAD("a known method and more", "GETX / HTTP/1.1\r\n" HOST "\r\n", 501),
    BAD("a method nobody knows, behind an empty line", "\r\nBREW / HTTP/1.1\r\n\r\n", 501),
    BAD("junk behind an empty line", "\r\n\x80\r\n\r\n", 400),
    BAD("method in lower case", "get / HTTP/1.1\r\n" HOST "\r\n", 501),
    BAD("CONNECT", "CONNECT a:80 HTTP/1.1\r\n" HOST "\r\n", 501),
    /* Headers */
    BAD("folded value", "GET / HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n", 400),
    BAD("folded value with a tab", "GET / HTTP/1.1\r\n" HOST "X: a\r\n\tb\r\n\r\n", 400),
    BAD("empty value, folded", "GET / HTTP/1.1\r\n" HOST "X:\r\n b\r\n\r\n", 400),
    BAD("fold to nothing", "GET / HTTP/1.1\r\n" HOST "X: a\r\n \r\n\r\n", 400),
    BAD("folded before chunked",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    BAD("folded length", "POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n 1\r\n\r\nx", 400),
    BAD("first header line folded", "GET / HTTP/1.1\r\n " HOST "\r\n", 400),
    BAD("space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    BAD("tab before the colon", "GET / HTTP/1.1\r\n" HOST "X\t: a\r\n\r\n", 400),
    BAD("space in a name", "GET / HTTP/1.1\r\n" HOST "X Y: a\r\n\r\n", 400),
    BAD("empty name", "GET / HTTP/1.1\r\n" HOST ": a\r\n\r\n", 400),
    BAD("no colon", "GET / HTTP/1.1\r\n" HOST "X\r\n\r\n", 400),
    BAD("NUL in a name", "GET / HTTP/1.1\r\n" HOST "X\0Y: a\r\n\r\n", 400),
    BAD("NUL in a value", "GET / HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n", 400),
    BAD("DEL in a value", "GET / HTTP/1.1\r\n" HOST "X: a\x7f\r\n\r\n", 400),
    BAD("bare CR in a value", "GET / HTTP/1.1\r\n" HOST "X: a\rb\r\n\r\n", 400),
    BAD("bare LF behind a header", "GET / HTTP/1.1\r\n" HOST "X: a\nY: b\r\n\r\n", 400),
    BAD("bare LF as the end of headers", "GET / HTTP/1.1\r\n" HOST "\n", 400),
    BAD("bare LFs", "GET / HTTP/1.1\nHost: a\n\n", 400),
    BAD("CR CR LF", "GET / HTTP/1.1\r\n" HOST "X: a\r\r\n\r\n", 400),
    BAD("end of headers CR only", "GET / HTTP/1.1\r\n" HOST "\rGET", 400),
    /* Host */
    BAD("no Host", "GET / HTTP/1.1\r\n\r\n", 400),
    BAD("no Host, other headers", "GET / HTTP/1.1\r\nX: y\r\n\r\n", 400),
    BAD("two Hosts", "GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400),
    BAD("two Hosts in 1.0", "GET / HTTP/1.0\r\n" HOST "host: b\r\n\r\n", 400),
    BAD("a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    BAD("a Host with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    BAD("a Host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    BAD("a Host with a byte above 0x7f", "GET / HTTP/1.1\r\nHost: a\x80\r\n\r\n", 400),
    /* Framing */
    BAD("length and chunks", BODY_5 "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    BAD("chunks and length",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
    BAD("two lengths", BODY_5 "Content-Length: 5\r\n\r\nhello", 400),
    BAD("two different lengths", BODY_5 "Content-Length: 6\r\n\r\nhello", 400),
    BAD("a list of lengths", "POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello", 400),
    BAD("empty length", "POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n", 400),
    BAD("length +5", "POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\nhello", 400),
    BAD("length -5", "POST / HTTP/1.1\r\n" HOST "Content-Length: -5\r\n\r\nhello", 400),
    BAD("length 0x5", "POST / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\nhello", 400),
    BAD("length 5 5", "POST / HTTP/1.1\r\n" HOST "Content-Length: 5 5\r\n\r\nhello", 400),
    BAD("length 5;", "POST / HTTP/1.1\r\n" HOST "Content-Length: 5;\r\n\r\nhello", 400),
    BAD("length with a NUL", "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\0\r\n\r\nhello", 400),
    BAD("length of more than 64 bits",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551621\r\n\r\nhello", 400),
    BAD("space before the length's colon",
        "POST / HTTP/1.1\r\n" HOST "Content-Length : 5\r\n\r\nhello", 400),
    BAD("chunked twice",
        "POST / HTTP/1.1\r\n" HOST
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400),
    BAD("chunked, then identity",
        "POST / HTTP/1.1\r\n" HOST
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        400),
    BAD("chunks in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    BAD("a quoted coding", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \"chunked\"\r\n\r\n",
        400),
    BAD("chunked with a vertical tab",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b"
        "chunked\r\n\r\n0\r\n\r\n",
        400),
    BAD("coding gzip", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", 400),
    BAD("coding identity", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n", 400),
    BAD("coding xchunked", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n", 400),
    BAD("empty coding", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n", 400),
    BAD("codings gzip and chunked",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    BAD("codings chunked and gzip",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    BAD("an expectation nobody knows",
        "POST / HTTP/1.1\r\n" HOST "Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", 417),
    /* Chunks */
    BAD("chunk size 0x5", CHUNKED "0x5\r\nhello\r\n0\r\n\r\n", 400),
    BAD("chunk size +5", CHUNKED "+5\r\nhello\r\n0\r\n\r\n", 400),
    BAD("chunk size -5", CHUNKED "-5\r\nhello\r\n0\r\n\r\n", 400),
    BAD("space before a chunk size", CHUNKED " 5\r\nhello\r\n0\r\n\r\n", 400),
    BAD("empty chunk size", CHUNKED "\r\nhello\r\n0\r\n\r\n", 400),
    BAD("chunk size without digits", CHUNKED ";x\r\nhello\r\n0\r\n\r\n", 400),
    BAD("chunk size and junk", CHUNKED "5 junk\r\nhello\r\n0\r\n\r\n", 400),
    BAD("chunk size and a space", CHUNKED "5 \r\nhello\r\n0\r\n\r\n", 400),
    BAD("chunk size of more than 64 bits", CHUNKED "10000000000000005\r\nhello\r\n0\r\n\r\n", 400),
    BAD("bare LF behind a chunk size", CHUNKED "5\nhello\r\n0\r\n\r\n", 400),
    BAD("bare CR behind a chunk size", CHUNKED "5\rhello\r\n0\r\n\r\n", 400),
    BAD("bare LF in an extension", CHUNKED "5;a\nhello\r\n0\r\n\r\n", 400),
    BAD("bare CR in an extension", CHUNKED "5;a\rb\r\nhello\r\n0\r\n\r\n", 400),
    BAD("NUL in an extension", CHUNKED "5;a\0\r\nhello\r\n0\r\n\r\n", 400),
    BAD("no CRLF behind a chunk", CHUNKED "5\r\nhello0\r\n\r\n", 400),
    BAD("bare LF behind a chunk", CHUNKED "5\r\nhello\n0\r\n\r\n", 400),
    BAD("a chunk longer than its size", CHUNKED "4\r\nhello\r\n0\r\n\r\n", 400),
    BAD("bare LF behind the last chunk", CHUNKED "0\n\r\n", 400),
    BAD("bare LF as the end of chunks", CHUNKED "0\r\n\n", 400),
    BAD("bare LF as the end of trailers", CHUNKED "0\r\nX: y\r\n\n", 400),
    BAD("bare LF in trailers", CHUNKED "0\r\nX: y\n\r\n", 400),
    BAD("folded trailer", CHUNKED "0\r\nX: y\r\n z\r\n\r\n", 400),
    BAD("empty name in trailers", CHUNKED "0\r\n: y\r\n\r\n", 400),
    BAD("empty name in later trailers", CHUNKED "0\r\nX: y\r\n: y\r\n\r\n", 400),
    BAD("empty trailer folded", CHUNKED "0\r\nX:\r\n z\r\n\r\n", 400),
    BAD("empty trailer folded with a tab", CHUNKED "0\r\nX:\r\n\tz\r\n\r\n", 400),
    BAD("an extension behind a value", CHUNKED "5;a=1;b=2\r\nhello\r\n0\r\n\r\n",
        400), /* llhttp's */
    BAD("space before a trailer's colon", CHUNKED "0\r\nX : y\r\n\r\n", 400),
};

static void test_bad(void **state)
{
    (void)state;
    check_rows(bad, ST_ARRAY_LEN(bad));
}

/* What is whole before is answered before. */
static void test_bad_behind_good(void **state)
{
    static const char first[] = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    char input[1024];

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(bad); i += 7) {
        struct row row = bad[i];

        memcpy(input, first, sizeof first - 1);
        memcpy(input + sizeof first - 1, row.input, row.len);
        row.input = input;
        row.len += sizeof first - 1;
        row.requests = "GET /1 1.1 {Host=a} \n";
        row.replies = OK_REPLY;
        assert_true(check_row(&row));
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_good),
        TEST(test_bad),
        TEST(test_bad_behind_good),
    };

    return cmocka_run_group_tests_name("http1", tests, NULL, NULL);
}
