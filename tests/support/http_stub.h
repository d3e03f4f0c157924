/* An HTTP/1 server of canned answers on 127.0.0.1, on a thread of its own: the far end of our own
 * requests. It serves one connection after the other, each for one request; the path says how:
 *
 *   /status/N    that status, body "status"        /flaky/N  503 to the first N requests, then 200
 *   /echo        200, the request as it came       /big/N    200 and N bytes
 *   /head/N      a header of N bytes               /close    closes without an answer
 *   /half        closes in the middle of the body  /hang     answers never: waits for the close */
#ifndef TESTS_SUPPORT_HTTP_STUB_H
#define TESTS_SUPPORT_HTTP_STUB_H

struct http_stub;

struct http_stub *http_stub_start(void);
void http_stub_stop(struct http_stub *stub);
unsigned short http_stub_port(const struct http_stub *stub);

/* Requests that came so far. */
unsigned http_stub_requests(struct http_stub *stub);

#endif
