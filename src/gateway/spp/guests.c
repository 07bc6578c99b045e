#include "gateway/spp/guests.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "gateway/spp/ask.h"

enum { ACCEPT_RETRY_MS = 100 };

struct guest {
    struct list_node node;
    struct spp_guests *guests;
    struct host_socket *socket;
    struct spp_question hello; /* who is it? */
    struct list questions;     /* the first is under way */
    unsigned question_count;
    size_t sent;                   /* bytes of the first question's text */
    struct reactor_timer deadline; /* of the first question */
    char key[24], type[12];        /* "" = not yet known */
    unsigned id;
    struct text input; /* an answer, as far as it has come */
    unsigned depth;    /* of brackets that are open in it */
    bool in_string, escaped;
};

struct door {
    struct spp_guests *guests;
    struct host_socket *socket;
    bool primary, accepting;
    struct reactor_timer retry;
};

struct spp_guests {
    struct spp_guests_options options;
    struct door doors[2]; /* the primary's, the others' */
    struct list list;
    unsigned count;
    struct packet_watcher watcher;
    struct reactor_job look; /* for processes whose number is taken now */
    bool look_queued, stopping;
    char refused[24]; /* whose refusal was told last: it comes again each second */
};

static void accept_more(struct door *door);

/* ---- questions ---- */

static struct spp_question *first_of(const struct guest *guest) {
    return list_empty(&guest->questions) ? NULL : container_of(list_first(&guest->questions), struct spp_question, node);
}

static void end_question(struct guest *guest, const json_t *answer, const struct error *error) {
    struct spp_question *question = first_of(guest);
    list_remove(&question->node);
    guest->question_count--;
    guest->sent = 0;
    reactor_timer_stop(guest->guests->options.reactor, &guest->deadline);
    if (question->done != NULL)
        question->done(question, answer, error);
}

/* It is gone, whatever it was; `why` goes to those who asked it. */
static void drop(struct guest *guest, const char *why) {
    struct spp_guests *guests = guest->guests;
    struct error error;
    host_socket_close(guest->socket);
    list_remove(&guest->node);
    guests->count--;
    error_set(&error, ERROR_NO_DEVICE, "%s %s", guest->key[0] != '\0' ? guest->key : "a process", why);
    if (guest->key[0] != '\0')
        log_notice(guests->options.log, LOG_AREA_APP, "Soft Patch Panel's %s", error.text);
    for (struct spp_question *question; (question = first_of(guest)) != NULL;)
        end_question(guest, NULL, question->exits ? NULL : &error);
    text_fini(&guest->input);
    free(guest);
    for (unsigned i = 0; i < 2; i++)
        accept_more(&guests->doors[i]);
}

static void timed_out(struct reactor_timer *timer) { drop(container_of(timer, struct guest, deadline), "does not answer"); }

static void in_ms(struct guest *guest, uint64_t ms) {
    struct reactor *reactor = guest->guests->options.reactor;
    reactor_timer_start(reactor, &guest->deadline, host_now_ns(reactor->host) + ms * NS_PER_MS);
}

static void send_question(struct guest *guest) {
    const struct spp_question *question = first_of(guest);
    while (question != NULL && guest->sent < strlen(question->text)) {
        struct slice slice = {(void *)(uintptr_t)(question->text + guest->sent), strlen(question->text) - guest->sent};
        int64_t count = host_socket_write(guest->socket, &slice, 1);
        if (count < 0) {
            if (count != -EAGAIN)
                in_ms(guest, 0); /* whoever called may have it in hand */
            return;
        }
        guest->sent += (size_t)count;
    }
}

static void begin_question(struct guest *guest) {
    if (first_of(guest) == NULL)
        return;
    in_ms(guest, guest->guests->options.answer_ms);
    send_question(guest);
}

static void submit(struct guest *guest, struct spp_question *question) {
    bool idle = first_of(guest) == NULL;
    list_push_back(&guest->questions, &question->node);
    guest->question_count++;
    if (idle)
        begin_question(guest);
}

/* ---- who it is ---- */

static struct guest *find(const struct spp_guests *guests, const char *key) {
    if (guests != NULL)
        list_for_each (&guests->list, struct guest, guest, node)
            if (strcmp(guest->key, key) == 0)
                return guest;
    return NULL;
}

/* A new connection of the same process takes the place of the one before, which it has lost. */
static void know(struct guest *guest, const char *type, unsigned id) {
    char key[24];
    wiring_key(type, id, key);
    struct guest *before = find(guest->guests, key);
    if (before != NULL)
        drop(before, "has connected again");
    guest->id = id;
    memcpy(guest->key, key, sizeof(key));
    snprintf(guest->type, sizeof(guest->type), "%s", type);
    guest->guests->refused[0] = '\0';
    log_notice(guest->guests->options.log, LOG_AREA_APP, "Soft Patch Panel's %s has connected", key);
}

/* NULL: the number is free. */
static const char *owner_of(const struct spp_guests *guests, unsigned id, const char *type) {
    const char *key;
    json_t *process;
    json_object_foreach(json_object_get(packet_control_wiring(guests->options.control), "processes"), key,
                        process) if (json_integer_value(json_object_get(process, "id")) == (json_int_t)id) return key;
    list_for_each (&guests->list, struct guest, guest, node)
        if (guest->key[0] != '\0' && guest->id == id && strcmp(guest->type, type) != 0)
            return guest->key;
    return NULL;
}

static bool refuse(struct guest *guest, const char *key, const char *why) {
    struct spp_guests *guests = guest->guests;
    if (strcmp(guests->refused, key) != 0)
        log_warning(guests->options.log, LOG_AREA_APP, "Soft Patch Panel's %s is sent away: %s", key, why);
    snprintf(guests->refused, sizeof(guests->refused), "%s", key);
    drop(guest, why);
    return false;
}

/* False: it is gone. */
static bool meet(struct guest *guest, const json_t *answer) {
    char type[12], key[24], why[64];
    unsigned id;
    if (!ask_read_hello(answer, &id, type))
        return refuse(guest, "process", "it does not say who it is");
    wiring_key(type, id, key);
    const char *owner = owner_of(guest->guests, id, type);
    if (owner != NULL) {
        snprintf(why, sizeof(why), "its number is %s's", owner);
        return refuse(guest, key, why);
    }
    know(guest, type, id);
    return true;
}

/* The wiring's processes come first: who has the number of one is sent away. */
static void look(struct reactor_job *job) {
    struct spp_guests *guests = container_of(job, struct spp_guests, look);
    guests->look_queued = false;
    for (bool again = !guests->stopping; again;) { /* from the beginning: whoever is told may ask others */
        again = false;
        list_for_each (&guests->list, struct guest, guest, node)
            if (guest->key[0] != '\0' && guest->id != 0 && owner_of(guests, guest->id, guest->type) != NULL) {
                refuse(guest, guest->key, "its number is another's now");
                again = true;
                break;
            }
    }
}

static void wiring_changed(struct packet_watcher *watcher) {
    struct spp_guests *guests = container_of(watcher, struct spp_guests, watcher);
    if (!guests->look_queued && !guests->stopping && guests->count > 0) {
        guests->look_queued = true;
        reactor_defer(guests->options.reactor, &guests->look);
    }
}

/* ---- answers ---- */

/* False: it is gone. */
static bool answered(struct guest *guest) {
    struct spp_question *question = first_of(guest);
    json_t *answer = json_loadb(guest->input.bytes, guest->input.length, 0, NULL);
    bool hello = question == &guest->hello, exits = question->exits, alive = true;
    text_fini(&guest->input);
    text_init(&guest->input, SPP_ANSWER_MAX);
    if (!json_is_object(answer)) {
        json_decref(answer);
        drop(guest, "answers what is not JSON");
        return false;
    }
    end_question(guest, answer, NULL);
    if (hello)
        alive = meet(guest, answer);
    else if (exits) {
        drop(guest, "has ended");
        alive = false;
    }
    json_decref(answer);
    if (alive)
        begin_question(guest);
    return alive;
}

/* True: the bracket that began it is closed. */
static bool scan(struct guest *guest, char c) {
    if (guest->in_string) {
        bool ends = c == '"' && !guest->escaped;
        guest->escaped = c == '\\' && !guest->escaped;
        guest->in_string = !ends;
        return false;
    }
    guest->in_string = c == '"';
    if (c == '{' || c == '[')
        guest->depth++;
    else if (c == '}' || c == ']')
        return --guest->depth == 0;
    return false;
}

/* Zero bytes are padding: the primary and nfv fill a buffer with them. False: it is gone. */
static bool take(struct guest *guest, const char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char c = bytes[i];
        bool blank = c == '\0' || c == ' ' || c == '\n' || c == '\r' || c == '\t';
        if (c == '\0' || (blank && guest->depth == 0))
            continue;
        if (guest->depth == 0 && (c != '{' || first_of(guest) == NULL)) {
            drop(guest, first_of(guest) == NULL ? "speaks without being asked" : "answers what is not JSON");
            return false;
        }
        text_append_char(&guest->input, c);
        if (guest->input.failed) {
            drop(guest, "answers too much");
            return false;
        }
        if (scan(guest, c) && !answered(guest))
            return false;
    }
    return true;
}

static void event(void *arg, unsigned events) {
    struct guest *guest = arg;
    char bytes[16384];
    (void)events;
    send_question(guest);
    for (;;) {
        struct slice slice = {bytes, sizeof(bytes)};
        int64_t count = host_socket_read(guest->socket, &slice, 1);
        if (count == -EAGAIN)
            return;
        if (count <= 0) {
            drop(guest, "has gone away");
            return;
        }
        if (!take(guest, bytes, (size_t)count))
            return;
    }
}

/* ---- doors ---- */

static void receive(struct door *door, struct host_socket *socket) {
    struct spp_guests *guests = door->guests;
    struct guest *guest = calloc(1, sizeof(*guest));
    if (guest == NULL) {
        host_socket_close(socket);
        return;
    }
    guest->guests = guests;
    guest->socket = socket;
    guest->hello.text = "_get_client_id";
    guest->deadline.run = timed_out;
    list_init(&guest->questions);
    text_init(&guest->input, SPP_ANSWER_MAX);
    list_push_back(&guests->list, &guest->node);
    guests->count++;
    if (door->primary)
        know(guest, "primary", 0);
    else
        submit(guest, &guest->hello);
    if (host_socket_attach(socket, guests->options.reactor->loop, event, guest) != 0)
        drop(guest, "cannot be listened to");
}

static void accept_more(struct door *door) {
    struct spp_guests *guests = door->guests;
    while (door->socket != NULL && door->accepting && guests->count < SPP_GUESTS_MAX) {
        int error = 0;
        struct host_address peer;
        struct host_socket *socket = host_accept(door->socket, &peer, &error);
        if (socket != NULL) {
            receive(door, socket);
        } else if (error == -EAGAIN) {
            door->accepting = false;
        } else {
            struct reactor *reactor = guests->options.reactor;
            reactor_timer_start(reactor, &door->retry, host_now_ns(reactor->host) + ACCEPT_RETRY_MS * NS_PER_MS);
            return;
        }
    }
}

static void retry(struct reactor_timer *timer) { accept_more(container_of(timer, struct door, retry)); }

static void knocked(void *arg, unsigned events) {
    struct door *door = arg;
    (void)events;
    door->accepting = true;
    accept_more(door);
}

bool spp_guests_create(const struct spp_guests_options *options, struct spp_guests **ret_guests, struct error *error) {
    struct spp_guests *guests = calloc(1, sizeof(*guests));
    if (guests == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory");
    guests->options = *options;
    list_init(&guests->list);
    for (unsigned i = 0; i < 2; i++) {
        struct door *door = &guests->doors[i];
        *door = (struct door){.guests = guests, .primary = i == 0, .retry.run = retry};
        door->socket =
            host_listen(options->reactor->loop, i == 0 ? &options->primary : &options->secondary, knocked, door, error);
        if (door->socket == NULL) {
            spp_guests_stop(guests);
            spp_guests_destroy(guests);
            return false;
        }
    }
    guests->look.run = look;
    guests->watcher.changed = wiring_changed;
    packet_control_watch(options->control, &guests->watcher);
    *ret_guests = guests;
    return true;
}

void spp_guests_stop(struct spp_guests *guests) {
    guests->stopping = true;
    if (guests->watcher.changed != NULL)
        list_remove(&guests->watcher.node);
    for (unsigned i = 0; i < 2; i++) {
        struct door *door = &guests->doors[i];
        if (door->socket != NULL)
            host_socket_close(door->socket);
        door->socket = NULL;
        if (door->guests != NULL)
            reactor_timer_stop(guests->options.reactor, &door->retry);
    }
    while (!list_empty(&guests->list))
        drop(container_of(list_first(&guests->list), struct guest, node), "is left alone: penstockd is ending");
}

void spp_guests_destroy(struct spp_guests *guests) {
    assert(list_empty(&guests->list));
    free(guests);
}

/* ---- being asked ---- */

bool spp_guests_has(const struct spp_guests *guests, const char *key) { return find(guests, key) != NULL; }

bool spp_guests_has_id(const struct spp_guests *guests, unsigned id) {
    if (guests != NULL)
        list_for_each (&guests->list, struct guest, guest, node)
            if (guest->key[0] != '\0' && guest->id == id)
                return true;
    return false;
}

json_t *spp_guests_list(const struct spp_guests *guests) {
    json_t *list = json_object();
    if (guests != NULL)
        list_for_each (&guests->list, struct guest, guest, node)
            if (guest->key[0] != '\0')
                json_object_set_new(list, guest->key, json_pack("{ss si}", "type", guest->type, "id", (int)guest->id));
    return list;
}

bool spp_guests_ask(struct spp_guests *guests, const char *key, struct spp_question *question, struct error *error) {
    struct guest *guest = find(guests, key);
    if (guest == NULL)
        return error_set(error, ERROR_NO_DEVICE, "there is no process %s", key);
    if (guest->question_count >= SPP_QUESTIONS_MAX)
        return error_set(error, ERROR_NO_MEMORY, "%s is asked too much at once", key);
    submit(guest, question);
    return true;
}
