/* `penstock support-bundle`: what somebody who is to help needs to see, in one file: versions, states, configurations and logs of
 * the nodes that were named, and of this machine. A tar file (ustar), compressed by zlib. Secrets never go in: members and lines
 * whose name says that they hold one are replaced, and files that a configuration points to are not read. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <zlib.h>

#include "base/text.h"
#include "cli/node/node.h"

enum { BLOCK = 512, FILE_MAX = 4 << 20 /* of a log: its end */ };
#define REDACTED "(not shown)"

struct bundle {
    gzFile file;
    char folder[64];
    struct text missing; /* what could not be had, and why */
    uint64_t now_s;
};

/* ---- secrets ---- */

/* True if something of that name holds a secret. A path to one is none, but what is no path is not trusted. */
static bool is_secret(const char *name, size_t length) {
    static const char *const words[] = {"secret", "password",   "passwd", "passphrase", "psk",
                                        "token",  "credential", "dhchap", "chap",       "key"};
    char low[128];
    if (length >= sizeof(low))
        return true;
    for (size_t i = 0; i < length; i++)
        low[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32) : name[i];
    low[length] = '\0';
    for (size_t i = 0; i < array_count(words); i++)
        if (strstr(low, words[i]) != NULL)
            return true;
    return false;
}

static void redact(json_t *value) {
    const char *key;
    json_t *item;
    void *next;
    size_t i;
    if (json_is_object(value)) {
        json_object_foreach_safe(value, next, key, item) {
            if (is_secret(key, strlen(key)) && !json_is_boolean(item) && !json_is_integer(item))
                json_object_set_new(value, key, json_string(REDACTED));
            else
                redact(item);
        }
    }
    json_array_foreach(value, i, item) redact(item);
}

/* Lines "NAME: VALUE" and "NAME=VALUE", of configurations and of what was said: the value of a secret's name goes, to the line's
 * end. */
static void redact_lines(struct text *to, const char *text) {
    while (*text != '\0') {
        size_t line = strcspn(text, "\n");
        size_t mark = 0;
        for (size_t at = 0; at < line && mark == 0; at++) {
            if (text[at] != ':' && text[at] != '=')
                continue;
            size_t begin = at;
            while (begin > 0 && strchr(" \t\"'{,-#", text[begin - 1]) == NULL)
                begin--;
            if (text[at - (at > 0)] == '"' || text[at - (at > 0)] == '\'') { /* "key": … */
                begin = at - (at > 0);
                while (begin > 0 && strchr(" \t{,", text[begin - 1]) == NULL)
                    begin--;
            }
            if (is_secret(text + begin, at - begin))
                mark = at + 1;
        }
        text_append(to, text, mark != 0 ? mark : line);
        if (mark != 0)
            text_append_string(to, " " REDACTED);
        text_append_char(to, '\n');
        text += line + (text[line] == '\n');
    }
}

/* ---- the file ---- */

static bool put(struct bundle *bundle, const void *bytes, size_t length) {
    return length == 0 || gzwrite(bundle->file, bytes, (unsigned)length) == (int)length;
}

/* One file of the archive. */
static bool put_file(struct bundle *bundle, const char *name, const char *bytes, size_t length) {
    static const char zeroes[BLOCK];
    char header[BLOCK] = "";
    unsigned sum = 0;
    snprintf(header, 100, "%s/%s", bundle->folder, name);
    snprintf(header + 100, 8, "%07o", 0600);
    snprintf(header + 108, 8, "%07o", 0);
    snprintf(header + 116, 8, "%07o", 0);
    snprintf(header + 124, 12, "%011llo", (unsigned long long)length);
    snprintf(header + 136, 12, "%011llo", (unsigned long long)bundle->now_s);
    memset(header + 148, ' ', 8);
    header[156] = '0';
    memcpy(header + 257, "ustar\00000", 8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += (unsigned char)header[i];
    snprintf(header + 148, 8, "%06o", sum);
    return put(bundle, header, BLOCK) && put(bundle, bytes, length) && put(bundle, zeroes, (BLOCK - length % BLOCK) % BLOCK);
}

static bool put_text(struct bundle *bundle, const char *name, const char *text) {
    struct text clean;
    text_init(&clean, 2 * (size_t)FILE_MAX);
    redact_lines(&clean, text);
    bool ok = put_file(bundle, name, clean.bytes != NULL ? clean.bytes : "", clean.length);
    text_fini(&clean);
    return ok;
}

/* Takes the value. */
static bool put_json(struct bundle *bundle, const char *name, json_t *take_value) {
    redact(take_value);
    char *text = json_dumps(take_value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    bool ok = text != NULL && put_file(bundle, name, text, strlen(text));
    free(text);
    json_decref(take_value);
    return ok;
}

static void miss(struct bundle *bundle, const char *what, const char *why) {
    text_appendf(&bundle->missing, "%s: %s\n", what, why);
}

/* The end of a file of this machine; one that is not there is noted. */
static bool put_end_of(struct bundle *bundle, const char *name, const char *path) {
    FILE *file = fopen(path, "re");
    char *text = file == NULL ? NULL : malloc(FILE_MAX + 1);
    if (text == NULL) {
        if (file != NULL)
            fclose(file);
        miss(bundle, path, "cannot be read here");
        return true;
    }
    if (fseek(file, 0, SEEK_END) == 0 && ftell(file) > FILE_MAX)
        fseek(file, -(long)FILE_MAX, SEEK_END);
    else
        rewind(file);
    text[fread(text, 1, FILE_MAX, file)] = '\0';
    fclose(file);
    bool ok = put_text(bundle, name, text);
    free(text);
    return ok;
}

/* ---- what goes in ---- */

static bool put_machine(struct bundle *bundle) {
    static const char *const files[][2] = {{"machine/os-release", "/etc/os-release"},
                                           {"machine/kernel", "/proc/version"},
                                           {"machine/cpuinfo", "/proc/cpuinfo"},
                                           {"machine/meminfo", "/proc/meminfo"},
                                           {"machine/mounts", "/proc/self/mounts"},
                                           {"machine/partitions", "/proc/partitions"},
                                           {"machine/pressure-io", "/proc/pressure/io"},
                                           {"machine/pressure-cpu", "/proc/pressure/cpu"},
                                           {"etc/penstockd.yaml", "/etc/penstock/penstockd.yaml"}};
    for (size_t i = 0; i < array_count(files); i++)
        if (!put_end_of(bundle, files[i][0], files[i][1]))
            return false;
    return true;
}

/* One answer of a node; one that it does not give is noted. */
static bool put_answer(struct cli *cli, struct bundle *bundle, unsigned at, const char *method, json_t **ret_kept) {
    char name[96];
    json_t *answer;
    snprintf(name, sizeof(name), "node-%u/%s.json", at, method);
    if (!cli_node_call_at(cli, at, method, NULL, &answer)) {
        miss(bundle, name, cli->error.text);
        error_clear(&cli->error);
        return true;
    }
    if (ret_kept != NULL)
        *ret_kept = json_deep_copy(answer);
    return put_json(bundle, name, answer);
}

static bool put_plane(struct cli *cli, struct bundle *bundle) {
    static const char *const methods[] = {"spdk_get_version",       "framework_get_config", "bdev_get_bdevs",
                                          "bdev_lvol_get_lvstores", "nvmf_get_subsystems",  "mirror_get",
                                          "framework_get_reactors", "bdev_get_iostat"};
    for (size_t i = 0; i < array_count(methods); i++) {
        char name[96];
        json_t *answer;
        snprintf(name, sizeof(name), "plane/%s.json", methods[i]);
        if (!cli_call(cli, methods[i],
                      strcmp(methods[i], "framework_get_config") == 0 ? json_pack("{s:s}", "name", "bdev") : NULL, &answer)) {
            miss(bundle, name, cli->error.text);
            error_clear(&cli->error);
        } else if (!put_json(bundle, name, answer)) {
            return false;
        }
    }
    return true;
}

static bool put_node(struct cli *cli, struct bundle *bundle, unsigned at, unsigned count) {
    static const char *const methods[] = {"ReplicaList", "EngineList", "EngineFrontendList", "VersionDetailGet"};
    char name[96];
    json_t *node = NULL;
    snprintf(name, sizeof(name), "node-%u/address", at);
    bool ok = put_text(bundle, name, cli_node_address(cli, at)) && put_answer(cli, bundle, at, "GetNode", &node);
    for (size_t i = 0; ok && i < array_count(methods); i++)
        ok = put_answer(cli, bundle, at, methods[i], NULL);
    const json_t *plane = json_object_get(json_object_get(node, "node"), "plane");
    if (ok && json_is_string(json_object_get(plane, "log_path"))) { /* if it is this machine's */
        snprintf(name, sizeof(name), "node-%u/plane.log", at);
        ok = put_end_of(bundle, name, cli_member(plane, "log_path"));
    }
    if (ok && count == 1 && !cli->socket_given && json_is_string(json_object_get(plane, "socket_path")))
        cli->socket = cli_member(plane, "socket_path");
    if (ok && count == 1)
        ok = put_plane(cli, bundle);
    json_decref(node);
    return ok;
}

bool cli_node_support_bundle(struct cli *cli) {
    struct bundle bundle = {.now_s = host_wall_ns(cli->reactor->host) / NS_PER_S};
    char path[256], part[272], time[TEXT_TIME_SIZE];
    unsigned count;
    if (!cli_node_count(cli, &count))
        return false;
    text_format_time(bundle.now_s * NS_PER_S, time, sizeof(time));
    snprintf(bundle.folder, sizeof(bundle.folder), "penstock-%.4s%.2s%.2s-%.2s%.2s%.2s", time, time + 5, time + 8, time + 11,
             time + 14, time + 17);
    if (cli->argument_count > 0)
        snprintf(path, sizeof(path), "%s", cli->arguments[0]);
    else
        snprintf(path, sizeof(path), "%s.tar.gz", bundle.folder);
    FILE *there = fopen(path, "re");
    if (there != NULL) {
        fclose(there);
        error_set(&cli->error, ERROR_EXISTS, "%s is there already", path);
        return error_hint(&cli->error, "name another file");
    }
    snprintf(part, sizeof(part), "%s.XXXXXX", path);
    int fd = mkstemp(part); /* 0600: what it holds is the site's own */
    if (fd < 0)
        return error_set(&cli->error, ERROR_IO, "%s cannot be made", path);
    bundle.file = gzdopen(fd, "wb");
    if (bundle.file == NULL)
        return error_set(&cli->error, ERROR_NO_MEMORY, "no memory");
    text_init(&bundle.missing, 1 << 20);
    bool ok = put_text(&bundle, "penstock-version", PENSTOCK_VERSION) && put_machine(&bundle);
    for (unsigned at = 0; ok && at < count; at++)
        ok = put_node(cli, &bundle, at, count);
    ok = ok && put_text(&bundle, "missing", bundle.missing.bytes != NULL ? bundle.missing.bytes : "");
    static const char end[2 * BLOCK];
    ok = ok && put(&bundle, end, sizeof(end));
    text_fini(&bundle.missing);
    ok = gzclose(bundle.file) == Z_OK && ok && rename(part, path) == 0;
    if (!ok) {
        remove(part);
        return error_set(&cli->error, ERROR_IO, "%s cannot be written to its end", path);
    }
    printf("%s\n", path);
    return true;
}
