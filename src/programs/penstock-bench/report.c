#include "programs/penstock-bench/report.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/text.h"

void report_add(struct report *report, const struct load_result *result) {
    struct load_result *sum = &report->sum;
    sum->requests += result->requests;
    sum->bytes += result->bytes;
    sum->flushes += result->flushes;
    if (sum->errors == 0)
        sum->first_error = result->first_error;
    sum->errors += result->errors;
    if (sum->mismatches == 0)
        memcpy(sum->first_mismatch, result->first_mismatch, sizeof(sum->first_mismatch));
    sum->mismatches += result->mismatches;
    sum->longest_stall_ns = max_u64(sum->longest_stall_ns, result->longest_stall_ns);
    sum->part_count = sum->part_count > result->part_count ? sum->part_count : result->part_count;
    for (unsigned i = 0; i < result->part_count; i++)
        sum->part_stall_ns[i] = max_u64(sum->part_stall_ns[i], result->part_stall_ns[i]);
    histogram_merge(&sum->latency_ticks, &result->latency_ticks);
    double seconds = (double)result->elapsed_ns / 1e9;
    report->seconds = seconds > report->seconds ? seconds : report->seconds;
    if (sum->intervals == NULL) {
        sum->intervals = calloc(result->interval_count + 1, sizeof(uint32_t));
        sum->interval_count = sum->intervals == NULL ? 0 : result->interval_count;
    }
    for (size_t i = 0; i < sum->interval_count && i < result->interval_count; i++)
        sum->intervals[i] += result->intervals[i];
}

static double percentile_us(const struct report *report, unsigned per_ten_thousand) {
    return (double)histogram_percentile(&report->sum.latency_ticks, per_ten_thousand) * 1e6 / report->ticks_per_second;
}

/* Requests of each whole second, so that "worst second" can be told. */
static uint64_t second_sum(const struct load_result *sum, size_t second) {
    uint64_t total = 0;
    for (size_t i = second * 10; i < second * 10 + 10; i++)
        total += sum->intervals[i];
    return total;
}

static void print_json(const struct report *report, FILE *to) {
    const struct load_result *sum = &report->sum;
    double seconds = report->seconds > 0 ? report->seconds : 1;
    fprintf(to, "{\"device\":\"%s\",\"pattern\":\"%s\",\"block_size\":%u,\"depth\":%u,\"jobs\":%u,", report->device,
            report->pattern, report->request_bytes, report->depth, report->jobs);
    fprintf(to, "\"seconds\":%.3f,\"requests\":%" PRIu64 ",\"iops\":%.0f,\"bytes_per_second\":%.0f,", report->seconds,
            sum->requests, (double)sum->requests / seconds, (double)sum->bytes / seconds);
    fprintf(to, "\"latency_us\":{\"avg\":%.3f,\"p50\":%.3f,\"p99\":%.3f,\"p99_9\":%.3f,\"max\":%.3f},",
            (double)histogram_mean(&sum->latency_ticks) * 1e6 / report->ticks_per_second, percentile_us(report, 5000),
            percentile_us(report, 9900), percentile_us(report, 9990), percentile_us(report, 10000));
    fprintf(to, "\"cpu_us_per_request\":%.3f,\"longest_stall_ms\":%.3f,",
            sum->requests == 0 ? 0 : report->cpu_seconds * 1e6 / (double)sum->requests, (double)sum->longest_stall_ns / 1e6);
    fprintf(to, "\"part_stalls_ms\":[");
    for (unsigned i = 0; i < sum->part_count; i++)
        fprintf(to, "%s%.3f", i == 0 ? "" : ",", (double)sum->part_stall_ns[i] / 1e6);
    fprintf(to,
            "],\"flushes\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"first_error\":\"%s\",\"mismatches\":%" PRIu64 ",\"per_second\":[",
            sum->flushes, sum->errors, io_status_name(sum->first_error), sum->mismatches);
    for (size_t second = 0; (second + 1) * 10 <= sum->interval_count; second++)
        fprintf(to, "%s%" PRIu64, second == 0 ? "" : ",", second_sum(sum, second));
    fprintf(to, "],\"per_tenth\":[");
    for (size_t i = 0; i < sum->interval_count; i++)
        fprintf(to, "%s%u", i == 0 ? "" : ",", sum->intervals[i]);
    fprintf(to, "]}\n");
}

void report_print(const struct report *report, bool json, FILE *to) {
    if (json) {
        print_json(report, to);
        return;
    }
    const struct load_result *sum = &report->sum;
    char size[24], rate[24];
    double seconds = report->seconds > 0 ? report->seconds : 1;
    fprintf(to, "%s  %s  %s  depth %u  jobs %u  %.1f s\n", report->device, report->pattern,
            text_format_size(report->request_bytes, size, sizeof(size)), report->depth, report->jobs, report->seconds);
    fprintf(to, "  requests   %12.0f /s   %s/s\n", (double)sum->requests / seconds,
            text_format_size((uint64_t)((double)sum->bytes / seconds), rate, sizeof(rate)));
    fprintf(to, "  latency    avg %.2f  p50 %.2f  p99 %.2f  p99.9 %.2f  max %.1f µs\n",
            (double)histogram_mean(&sum->latency_ticks) * 1e6 / report->ticks_per_second, percentile_us(report, 5000),
            percentile_us(report, 9900), percentile_us(report, 9990), percentile_us(report, 10000));
    fprintf(to, "  processor  %.3f µs a request, %.0f %% of a core\n",
            sum->requests == 0 ? 0 : report->cpu_seconds * 1e6 / (double)sum->requests, report->cpu_seconds * 100 / seconds);
    if (sum->flushes > 0)
        fprintf(to, "  flushes    %" PRIu64 "\n", sum->flushes);
    if (sum->longest_stall_ns > 100 * NS_PER_MS)
        fprintf(to, "  longest stall %.0f ms\n", (double)sum->longest_stall_ns / 1e6);
    if (sum->errors > 0)
        fprintf(to, "  errors     %" PRIu64 ", the first: %s\n", sum->errors, io_status_words(sum->first_error));
    if (sum->mismatches > 0)
        fprintf(to, "  MISMATCHES %" PRIu64 ", the first %s\n", sum->mismatches, sum->first_mismatch);
}
