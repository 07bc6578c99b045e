/* How far something is, while one waits: a bar that is drawn over, on a terminal; else a line whenever it has moved by a tenth.
 */
#include "base/text.h"
#include "cli/cli.h"

enum { BAR_WIDTH = 30, LINE_PERCENT = 10 };

void cli_progress_show(struct cli *cli, struct cli_progress *progress, const char *what, unsigned percent, uint64_t bytes) {
    uint64_t now = host_now_ns(cli->reactor->host);
    char done[24], speed[24];
    if (cli_wants_data(cli))
        return;
    if (progress->shown && now > progress->at_ns && bytes >= progress->bytes)
        progress->bytes_per_s = (bytes - progress->bytes) * 1000 / ((now - progress->at_ns) / NS_PER_MS + 1);
    bool line = !progress->shown || percent == 100 || percent >= progress->percent + LINE_PERCENT || percent < progress->percent;
    progress->at_ns = now;
    progress->bytes = bytes;
    text_format_size(bytes, done, sizeof(done));
    text_format_size(progress->bytes_per_s, speed, sizeof(speed));
    if (cli->terminal) {
        unsigned full = percent * BAR_WIDTH / 100;
        fprintf(stderr, "\r%s [", what);
        for (unsigned i = 0; i < BAR_WIDTH; i++)
            fputc(i < full ? '#' : '.', stderr);
        fprintf(stderr, "] %u %%, %s, %s/s\033[K", percent, done, speed);
    } else if (line) {
        fprintf(stderr, "%s: %u %%, %s\n", what, percent, done);
        progress->percent = percent;
    }
    fflush(stderr);
    progress->shown = true;
}

void cli_progress_end(struct cli *cli, struct cli_progress *progress) {
    if (progress->shown && cli->terminal)
        fputc('\n', stderr);
    *progress = (struct cli_progress){0};
}
