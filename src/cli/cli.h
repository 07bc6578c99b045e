/* The command line: verbs over the public API of a node. Tables of verbs give dispatch, help, the manual page and completion:
 * those of a storage plane (JSON-RPC, here) and an extension's (those of the control daemon, cli/node). Must not know: how a
 * plane works inside; it speaks JSON-RPC through plane_client only. */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "plane_client/client.h"

#define CLI_ARGUMENTS_MAX 64
#define CLI_OPTIONS_MAX 12
#define CLI_VERBS_MAX 192
#define CLI_NVME_SCHEME "nvme-tcp://" /* of what another node exports */

struct cli;
struct rpc_schema_method;

struct cli_option {
    const char *name;  /* "--thick"; NULL ends the table */
    const char *value; /* "SIZE"; NULL = a flag */
    const char *help;
};

/* One that stands before or behind any verb. */
struct cli_global_option {
    const char *name, *value, *help;
    const char *brief; /* "-o"; NULL = none */
    bool of_extension; /* only where there is one */
};

/* How an argument is completed. */
enum cli_complete {
    CLI_COMPLETE_NONE,
    CLI_COMPLETE_METHOD,
    CLI_COMPLETE_STORE,
    CLI_COMPLETE_VOLUME,
    CLI_COMPLETE_SNAPSHOT,
    CLI_COMPLETE_NQN,
    CLI_COMPLETE_MIRROR,
    CLI_COMPLETE_MIRROR_LEG,      /* a mirror, then a leg of it */
    CLI_COMPLETE_MIRROR_SNAPSHOT, /* a mirror, then a snapshot of it */
    /* an extension's */
    CLI_COMPLETE_NODE_DISK,
    CLI_COMPLETE_NODE_REPLICA,
    CLI_COMPLETE_NODE_ENGINE,
    CLI_COMPLETE_NODE_FRONTEND,
    CLI_COMPLETE_NODE_VOLUME,
    CLI_COMPLETE_NODE_OBJECT, /* KIND/NAME */
    CLI_COMPLETE_NODE_METHOD
};

struct cli_verb {
    const char *path;      /* "block volume create" */
    const char *arguments; /* "STORE/NAME SIZE": how many there must be is told by the words; "[X]" is optional, "…" repeats */
    const char *help;      /* one line; then, behind a newline, more for --help and the manual */
    const struct cli_option *options; /* NULL = none */
    enum cli_complete complete;       /* of the first argument */
    bool (*run)(struct cli *cli);     /* false: cli->error is set */
};

enum cli_output { CLI_TABLE, CLI_WIDE, CLI_JSON, CLI_YAML };

/* More verbs, and what they need. */
struct cli_extension {
    const struct cli_verb *verbs;      /* path NULL ends them */
    const struct cli_verb *more_verbs; /* another table; NULL = none */
    bool (*status)(struct cli *cli);
    void (*complete)(struct cli *cli, enum cli_complete what, const char *beginning);
    void (*fini)(struct cli *cli); /* after the verb */
};

struct cli {
    const char *program;
    const char *socket;
    bool socket_given; /* by option or environment */
    const char *nodes; /* addresses of control daemons, with commas between */
    bool nodes_given;
    const char *tls_ca, *tls_certificate, *tls_key, *tls_name; /* files; the name in the daemon's certificate. NULL = none */
    const struct cli_extension *extension;                     /* NULL = none */
    void *extension_state;
    const struct cli_verb *verbs[CLI_VERBS_MAX]; /* all there are, in the order of the manual */
    unsigned verb_count;
    enum cli_output output;
    bool terminal;                       /* standard error is one */
    struct reactor *reactor;             /* not started: `run` turns it on this thread */
    void (*run)(struct host_loop *loop); /* until host_loop_stop() */
    const struct cli_verb *verb;
    const char *arguments[CLI_ARGUMENTS_MAX];
    unsigned argument_count;
    const char *option_values[CLI_OPTIONS_MAX]; /* by place in verb->options; "" for a flag; NULL = not given */
    struct plane_client *client;                /* connected on the first call */
    struct error error;
    int exit_status; /* 0, unless a verb wants another one without an error text */
};

/* Runs one command line; returns the exit status. The reactor, not started, carries the connection; `run` turns its loop on this
 * thread until host_loop_stop(), again and again. The extension may be NULL. `terminal`: standard error is one. */
int cli_main(struct reactor *reactor, void (*run)(struct host_loop *loop), const struct cli_extension *extension, bool terminal,
             int argc, char **argv);

#define CLI_NODE_DEFAULT "127.0.0.1:8504" /* the control daemon's own default */

/* ---- for verbs ---- */

/* Calls a method; *ret_result is the caller's. params is taken (NULL = none). False: cli->error is set, with the method's own
 * words. */
bool cli_call(struct cli *cli, const char *method, json_t *take_params, json_t **ret_result);
/* The same where nobody wants to see the result (with -o json it is printed). */
bool cli_do(struct cli *cli, const char *method, json_t *take_params);
/* A string member of an object, "-" if there is none. */
const char *cli_member(const json_t *object, const char *key);
/* The value of an option of this verb, NULL if not given. */
const char *cli_option(const struct cli *cli, const char *name);
/* What is in a file, of at most 1 MiB: a certificate, a key, a password. It is given back by cli_forget_text(), which overwrites
 * it; NULL is fine there. False: cli->error names the file. */
bool cli_read_text(struct cli *cli, const char *path, char **ret_text);
void cli_forget_text(char *take_text);
/* Parses a size argument ("10G"); false: cli->error names it. */
bool cli_size(struct cli *cli, const char *what, const char *text, uint64_t *ret_bytes);
/* True if --yes was given. Else cli->error says what would be lost. */
bool cli_yes(struct cli *cli, const char *loss_format, ...) __attribute__((format(printf, 2, 3)));
/* Lets time pass. */
void cli_sleep(struct cli *cli, uint64_t ms);
/* What makes a word plural behind that number. */
static inline const char *cli_plural(uint64_t count) { return count == 1 ? "" : "s"; }
/* True if a program reads the output: JSON or YAML. */
static inline bool cli_wants_data(const struct cli *cli) { return cli->output == CLI_JSON || cli->output == CLI_YAML; }
/* Prints a value as YAML if that is asked for, else as JSON, indented. */
void cli_print(const struct cli *cli, const json_t *value);
/* An object out of the arguments from `first` on, "a.b=VALUE" each; NULL if there are none. `method` (NULL = unknown) tells which
 * words are not numbers or null. False: cli->error is set. */
bool cli_words(struct cli *cli, const struct rpc_schema_method *method, unsigned first, json_t **ret_object);
/* Completion: prints the word if it begins so. */
void cli_offer(const char *word, const char *beginning);

/* ---- waiting ---- */

/* {0} to begin with. */
struct cli_progress {
    bool shown;
    unsigned percent; /* of the last line */
    uint64_t at_ns, bytes, bytes_per_s;
};
/* Says how far `what` is, on standard error, unless a program reads. `bytes`: done so far. */
void cli_progress_show(struct cli *cli, struct cli_progress *progress, const char *what, unsigned percent, uint64_t bytes);
void cli_progress_end(struct cli *cli, struct cli_progress *progress);

/* ---- tables ---- */

#define CLI_COLUMNS_MAX 14
#define CLI_CELL_MAX 256
struct cli_table {
    unsigned columns, rows, capacity;
    const char *const *titles;
    unsigned right; /* bit set of columns with numbers */
    char (*cells)[CLI_CELL_MAX];
};
void cli_table_init(struct cli_table *table, const char *const *titles, unsigned columns, unsigned right);
/* Adds a row; one text for each column. */
void cli_table_row(struct cli_table *table, ...);
/* Prints and frees. */
void cli_table_print(struct cli_table *table, FILE *to);

/* ---- the table of the plane's verbs, in the order of the manual; path NULL ends it ---- */
extern const struct cli_verb cli_verbs[];
extern const struct cli_global_option cli_global_options[];
bool cli_rpc(struct cli *cli);
bool cli_status(struct cli *cli);
bool cli_disk_list(struct cli *cli);
bool cli_disk_create(struct cli *cli);
bool cli_disk_delete(struct cli *cli);
bool cli_volume_list(struct cli *cli);
bool cli_volume_create(struct cli *cli);
bool cli_volume_delete(struct cli *cli);
bool cli_volume_resize(struct cli *cli);
bool cli_volume_rename(struct cli *cli);
bool cli_snapshot_list(struct cli *cli);
bool cli_snapshot_create(struct cli *cli);
bool cli_snapshot_delete(struct cli *cli);
bool cli_snapshot_clone(struct cli *cli);
bool cli_export_list(struct cli *cli);
bool cli_export_create(struct cli *cli);
bool cli_export_delete(struct cli *cli);
bool cli_mirror_list(struct cli *cli);
bool cli_mirror_show(struct cli *cli);
bool cli_mirror_create(struct cli *cli);
bool cli_mirror_delete(struct cli *cli);
bool cli_mirror_add(struct cli *cli);
bool cli_mirror_remove(struct cli *cli);
bool cli_mirror_snapshots(struct cli *cli);
bool cli_mirror_snapshot(struct cli *cli);
bool cli_mirror_snapshot_delete(struct cli *cli);
bool cli_mirror_revert(struct cli *cli);
bool cli_mirror_resize(struct cli *cli);
bool cli_mirror_invalidate(struct cli *cli);
bool cli_mirror_discard(struct cli *cli);
bool cli_mirror_start(struct cli *cli);
bool cli_mirror_promote(struct cli *cli);
bool cli_mirror_release(struct cli *cli);
bool cli_mirror_pause_sync(struct cli *cli);
bool cli_mirror_resume_sync(struct cli *cli);
bool cli_mirror_verify(struct cli *cli);
bool cli_mirror_set(struct cli *cli);
/* Calls `line` for everything about mirrors that is not well. */
bool cli_mirror_advice(struct cli *cli, void (*line)(void *arg, const char *what, const char *advice), void *arg);
bool cli_complete(struct cli *cli);
bool cli_manual(struct cli *cli);
