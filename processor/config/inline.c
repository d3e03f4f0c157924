#include "processor/config/inline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "processor/core/alloc.h"

static const char mark[] = "@nuclio.configure";

/* Cuts a line, with its newline, off the text. */
static struct st_slice next_line(struct st_slice *text)
{
    const char *end = memchr(text->ptr, '\n', text->len);
    struct st_slice line = {text->ptr, end != NULL ? (size_t)(end - text->ptr) + 1 : text->len};

    text->ptr += line.len;
    text->len -= line.len;
    return line;
}

static bool is_comment(struct st_slice line, struct st_slice comment)
{
    return line.len >= comment.len && memcmp(line.ptr, comment.ptr, comment.len) == 0;
}

static bool is_mark(struct st_slice line, struct st_slice comment)
{
    size_t i = comment.len;

    if (!is_comment(line, comment))
        return false;
    while (i < line.len && (line.ptr[i] == ' ' || line.ptr[i] == '\t'))
        i++;
    if (line.len - i < sizeof mark - 1 || memcmp(line.ptr + i, mark, sizeof mark - 1) != 0)
        return false;
    for (i += sizeof mark - 1; i < line.len; i++) {
        if (strchr(" \t\r\n", line.ptr[i]) == NULL)
            return false;
    }
    return true;
}

/* The block as YAML, in place: what is not of it becomes empty lines, comment characters become
 * blanks, so that every character keeps its line and column. The length, 0 when there is none. */
static size_t cut_block(char *text, size_t len, const char *comment_text, unsigned *mark_line)
{
    struct st_slice rest = {text, len}, comment = st_slice_of(comment_text);
    size_t out = 0;
    bool found = false;

    *mark_line = 0;
    while (rest.len > 0) {
        struct st_slice line = next_line(&rest);

        if (!found) {
            found = is_mark(line, comment);
            ++*mark_line;
            text[out++] = '\n';
            continue;
        }
        if (!is_comment(line, comment))
            break;
        memset(text + out, ' ', comment.len);
        memmove(text + out + comment.len, line.ptr + comment.len, line.len - comment.len);
        out += line.len;
    }
    return found ? out : 0;
}

/* At most what a configuration may have; a block further down is not looked for. */
static char *read_head(const char *file, size_t *len)
{
    FILE *stream = fopen(file, "re");
    char *text;

    if (stream == NULL)
        return NULL;
    text = st_malloc(ST_DOCUMENT_MAX_BYTES);
    *len = fread(text, 1, ST_DOCUMENT_MAX_BYTES, stream);
    (void)fclose(stream);
    return text;
}

int st_inline_parse(struct st_document *doc, struct st_node *root, const char *file, char *text,
                    size_t len, const char *comment, struct st_config_memory *mem,
                    struct st_diag *diag)
{
    struct st_place place = {file, 0, 1};
    struct st_pairs pairs;
    int rc;

    *root = (struct st_node){NULL, 0, 0};
    len = cut_block(text, len, comment, &place.line);
    rc = len > 0 ? st_document_parse(doc, file, (struct st_slice){text, len}, mem, diag) : 0;
    if (len == 0 || rc != 0)
        return rc;
    if (st_node_kind(st_document_root(doc)) == ST_NODE_MAP)
        rc = st_document_pairs(doc, st_document_root(doc), &pairs);
    else
        pairs.count = 0;
    for (size_t i = 0; rc == 0 && i < pairs.count; i++) {
        if (st_slice_eq(pairs.items[i].key, ST_SLICE("function.yaml")))
            *root = pairs.items[i].value;
    }
    if (rc == 0 && (root->fyn == NULL || st_node_kind(*root) == ST_NODE_NULL)) {
        st_diag_error(diag, place,
                      "found no configuration below %s, expected \"function.yaml:\" and "
                      "an indented body, in comments",
                      mark);
        rc = ST_ERR_INVALID;
    }
    if (rc != 0)
        st_document_close(doc);
    return rc;
}

int st_inline_open(struct st_document *doc, struct st_node *root, const char *file,
                   const char *comment, struct st_config_memory *mem, struct st_diag *diag)
{
    size_t len = 0;
    char *text = read_head(file, &len);
    int rc;

    *root = (struct st_node){NULL, 0, 0};
    if (text == NULL) {
        st_diag_error(diag, (struct st_place){file, 0, 0}, "can't be read: %s", strerror(errno));
        return ST_ERR_NOTFOUND;
    }
    rc = st_inline_parse(doc, root, file, text, len, comment, mem, diag);
    free(text);
    return rc;
}
