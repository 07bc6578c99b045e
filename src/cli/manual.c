/* `penstock __manual`: the manual page's source (scdoc), from the table of verbs. */
#include <string.h>

#include "cli/cli.h"

/* scdoc reads _, * and backslashes as marks. */
static void escaped(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (strchr("_*\\[]<>#", text[i]) != NULL)
            putchar('\\');
        putchar(text[i]);
    }
}

bool cli_manual(struct cli *cli) {
    (void)cli;
    printf("penstock(1)\n\n# NAME\n\npenstock - looks at and changes a node's disks, volumes and exports\n\n"
           "# SYNOPSIS\n\n*penstock* \\[--socket PATH\\] \\[-o json\\] VERB …\n\n"
           "# DESCRIPTION\n\nTalks to a running *penstock-block*(8) over its socket. Tables are for people; *-o json* is for "
           "programs.\n\n"
           "# OPTIONS\n\n*-s*, *--socket* PATH\n\tThe storage plane's socket; also the environment's PENSTOCK\\_SOCKET.\n\n"
           "*-o*, *--output* FORMAT\n\ttable or json.\n\n# VERBS\n\n");
    for (const struct cli_verb *verb = cli_verbs; verb->path != NULL; verb++) {
        if (verb->path[0] == '_')
            continue;
        printf("*%s* ", verb->path);
        escaped(verb->arguments, strlen(verb->arguments));
        printf("\n\t");
        size_t first = strcspn(verb->help, "\n");
        escaped(verb->help, first);
        printf(". ");
        if (verb->help[first] == '\n')
            escaped(verb->help + first + 1, strlen(verb->help + first + 1));
        printf("\n\n");
        for (const struct cli_option *o = verb->options; o != NULL && o->name != NULL; o++) {
            printf("\t*%s* %s\n\t\t", o->name, o->value != NULL ? o->value : "");
            escaped(o->help, strlen(o->help));
            printf("\n\n");
        }
    }
    printf("# EXIT STATUS\n\n0 on success; otherwise as in sysexits.h: 64 a wrong argument, 66 no such thing, 69 unsupported, 73 "
           "the name is "
           "taken, 74 an I/O error or no space, 75 busy, try again, 77 not permitted.\n\n# SEE ALSO\n\n*penstock-block*(8), "
           "*penstock-bench*(1), *penstock-fsck*(8)\n");
    return true;
}
