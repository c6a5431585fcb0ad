/*
 * DPDK's rte_lpm and rte_lpm6, timed as benches/fib times the FIB: the same routes in the same order, asked for the same
 * addresses, read from a file that benches/fib writes (routes.rs says how). benches/fib compiles and starts this program
 * and reads what it prints: one figure a line, as a JSON object.
 *
 * usage: rte_lpm ipv4|ipv6 FILE CORE
 *
 * Runs without privileges and without huge pages, and leaves no file.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>
#include <rte_malloc.h>

#define BURST 64
/* As in measure.rs. */
#define UPDATES ((size_t)100000)
#define SHORT_HOP 201
#define SHORT_LENGTH_MAX 16

#define OCTETS 16

static void fail(const char *format, ...)
{
	va_list words;

	va_start(words, format);
	fputs("rte_lpm: ", stderr);
	vfprintf(stderr, format, words);
	fputc('\n', stderr);
	va_end(words);
	exit(1);
}

/* ---- routes and addresses ---- */

struct route {
	uint8_t address[OCTETS];
	uint32_t length;
	uint32_t hop;
};

enum { INSIDE, ANYWHERE, ONE, KINDS };

struct input {
	uint32_t count;
	uint32_t asked;
	struct route *routes;
	uint8_t (*addresses[KINDS])[OCTETS];
	uint32_t *words[KINDS]; /* the same as numbers, for IPv4 */
};

static void *take(FILE *file, size_t size, size_t count)
{
	void *all = malloc(size * count);

	if (all == NULL || fread(all, size, count, file) != count)
		fail("the file ends too early, or there is no memory");
	return all;
}

static struct input read_input(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct input input;

	if (file == NULL)
		fail("%s cannot be read", path);
	if (fread(&input.count, 4, 1, file) != 1 || fread(&input.asked, 4, 1, file) != 1)
		fail("%s is empty", path);
	input.routes = take(file, sizeof(struct route), input.count);
	for (int kind = 0; kind < KINDS; kind++) {
		input.addresses[kind] = take(file, OCTETS, input.asked);
		input.words[kind] = malloc(4 * (size_t)input.asked);
		if (input.words[kind] == NULL)
			fail("no memory");
		for (uint32_t i = 0; i < input.asked; i++) {
			uint32_t word;

			memcpy(&word, input.addresses[kind][i], 4);
			input.words[kind][i] = ntohl(word);
		}
	}
	fclose(file);
	return input;
}

/* ---- the tables ---- */

static bool ipv6;
static struct rte_lpm *table4;
static struct rte_lpm6 *table6;
/* The default route: DPDK's tables have none. */
static uint32_t default_hop;

static void create(uint32_t count)
{
	/* Groups of 256 entries for what is longer than 24 bits: more than any of the tables needs. */
	if (ipv6) {
		struct rte_lpm6_config config = { .max_rules = count + 64, .number_tbl8s = 256 + 2 * count, .flags = 0 };

		if (config.number_tbl8s > 300000)
			config.number_tbl8s = 300000;
		table6 = rte_lpm6_create("yardstick", 0, &config);
	} else {
		struct rte_lpm_config config = { .max_rules = count + 64, .number_tbl8s = 65536, .flags = 0 };

		table4 = rte_lpm_create("yardstick", 0, &config);
	}
	if (table4 == NULL && table6 == NULL)
		fail("no table for %u routes: %s", count, rte_strerror(rte_errno));
}

static uint32_t word_of(const uint8_t *address)
{
	uint32_t word;

	memcpy(&word, address, 4);
	return ntohl(word);
}

static void add(const struct route *route)
{
	int done = 0;

	if (route->length == 0)
		default_hop = route->hop;
	else if (ipv6)
		done = rte_lpm6_add(table6, route->address, route->length, route->hop);
	else
		done = rte_lpm_add(table4, word_of(route->address), route->length, route->hop);
	if (done != 0)
		fail("the table refused a route of %u bits: %s", route->length, strerror(-done));
}

static void delete(const struct route *route)
{
	int done = 0;

	if (route->length == 0)
		default_hop = 0;
	else if (ipv6)
		done = rte_lpm6_delete(table6, route->address, route->length);
	else
		done = rte_lpm_delete(table4, word_of(route->address), route->length);
	if (done != 0)
		fail("a route of %u bits is not there: %s", route->length, strerror(-done));
}

/* ---- measuring ---- */

static double nanoseconds(uint64_t cycles)
{
	return (double)cycles * 1e9 / (double)rte_get_tsc_hz();
}

static void print(const char *figure, double value)
{
	printf("{\"figure\":\"%s\",\"value\":%.3f}\n", figure, value);
}

/* Sum of the next hops found for a burst. */
typedef uint64_t (*ask)(const struct input *input, int kind, uint32_t from);

static uint64_t bulk4(const struct input *input, int kind, uint32_t from)
{
	uint32_t hops[BURST];
	uint64_t sum = 0;

	rte_lpm_lookup_bulk(table4, &input->words[kind][from], hops, BURST);
	for (int i = 0; i < BURST; i++)
		sum += hops[i] & RTE_LPM_LOOKUP_SUCCESS ? hops[i] & 0xffffff : default_hop;
	return sum;
}

static uint64_t loop4(const struct input *input, int kind, uint32_t from)
{
	uint64_t sum = 0;

	for (int i = 0; i < BURST; i++) {
		uint32_t hop;

		sum += rte_lpm_lookup(table4, input->words[kind][from + i], &hop) == 0 ? hop : default_hop;
	}
	return sum;
}

static uint64_t bulk6(const struct input *input, int kind, uint32_t from)
{
	int32_t hops[BURST];
	uint64_t sum = 0;

	rte_lpm6_lookup_bulk_func(table6, &input->addresses[kind][from], hops, BURST);
	for (int i = 0; i < BURST; i++)
		sum += hops[i] >= 0 ? (uint32_t)hops[i] : default_hop;
	return sum;
}

static uint64_t loop6(const struct input *input, int kind, uint32_t from)
{
	uint64_t sum = 0;

	for (int i = 0; i < BURST; i++) {
		uint32_t hop;

		sum += rte_lpm6_lookup(table6, input->addresses[kind][from + i], &hop) == 0 ? hop : default_hop;
	}
	return sum;
}

static uint64_t pass(const struct input *input, int kind, uint32_t asked, ask way)
{
	uint64_t sum = 0;

	for (uint32_t at = 0; at + BURST <= asked; at += BURST)
		sum += way(input, kind, at);
	return sum;
}

static void time_lookups(const struct input *input)
{
	static const char *const names[KINDS] = { "inside", "anywhere", "one" };
	const struct { const char *name; ask way; } ways[] = {
		{ "bulk", ipv6 ? bulk6 : bulk4 },
		{ "loop", ipv6 ? loop6 : loop4 },
	};

	for (int kind = 0; kind < KINDS; kind++) {
		for (size_t i = 0; i < RTE_DIM(ways); i++) {
			uint64_t start, sum = pass(input, kind, input->asked / 4, ways[i].way);

			__asm__ volatile("" : : "r"(sum));
			start = rte_rdtsc_precise();
			sum = pass(input, kind, input->asked, ways[i].way);
			printf("{\"figure\":\"%s_%s\",\"value\":%.3f,\"sum\":%" PRIu64 "}\n", names[kind], ways[i].name,
			       nanoseconds(rte_rdtsc_precise() - start) / input->asked, sum);
		}
	}
}

static void time_updates(const struct input *input, size_t updates)
{
	uint64_t start = rte_rdtsc_precise();

	for (size_t i = 0; i < updates; i++) {
		delete(&input->routes[i % input->count]);
		add(&input->routes[i % input->count]);
	}
	print("update", nanoseconds(rte_rdtsc_precise() - start) / (2.0 * (double)updates));
}

static bool is_there(const struct input *input, const struct route *route)
{
	for (uint32_t i = 0; i < input->count; i++)
		if (input->routes[i].length == route->length &&
		    memcmp(input->routes[i].address, route->address, OCTETS) == 0)
			return true;
	return false;
}

/* The slowest change of a short prefix that has nothing but zero bits behind it. */
static void time_short(const struct input *input)
{
	uint64_t worst = 0;

	for (uint32_t length = 1; length <= SHORT_LENGTH_MAX; length++) {
		struct route route = input->routes[0];
		uint64_t start;

		route.length = length;
		route.hop = SHORT_HOP;
		for (uint32_t bit = length; bit < 8 * OCTETS; bit++)
			route.address[bit / 8] &= (uint8_t)~(0x80 >> bit % 8);
		if (is_there(input, &route))
			continue;
		start = rte_rdtsc_precise();
		add(&route);
		worst = RTE_MAX(worst, rte_rdtsc_precise() - start);
		start = rte_rdtsc_precise();
		delete(&route);
		worst = RTE_MAX(worst, rte_rdtsc_precise() - start);
	}
	print("short", nanoseconds(worst));
}

/* ---- set-up ---- */

static size_t allocated(void)
{
	struct rte_malloc_socket_stats stats;

	return rte_malloc_get_socket_stats(0, &stats) == 0 ? stats.heap_allocsz_bytes : 0;
}

/* DPDK makes a directory for files that --no-shconf keeps it from writing. */
static void remove_directory(void)
{
	rmdir(rte_eal_get_runtime_dir());
}

static void start_dpdk(const char *program, const char *core)
{
	char prefix[32];
	const char *arguments[] = { program, "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry",
				    "--log-level=error", "-m", "1024", "--main-lcore", core, "-l", core,
				    "--file-prefix", prefix, NULL };

	snprintf(prefix, sizeof(prefix), "yardstick%d", (int)getpid());
	atexit(remove_directory);
	if (rte_eal_init(RTE_DIM(arguments) - 1, (char **)arguments) < 0)
		fail("DPDK does not start: %s", rte_strerror(rte_errno));
}

int main(int argc, char **argv)
{
	if (argc != 4)
		fail("usage: rte_lpm ipv4|ipv6 FILE CORE");
	ipv6 = strcmp(argv[1], "ipv6") == 0;
	start_dpdk(argv[0], argv[3]);

	struct input input = read_input(argv[2]);
	size_t before = allocated();
	uint64_t start = rte_rdtsc_precise();

	create(input.count);
	for (uint32_t i = 0; i < input.count; i++)
		add(&input.routes[i]);
	print("load", nanoseconds(rte_rdtsc_precise() - start));
	print("own", (double)(allocated() - before));
	time_lookups(&input);
	/* A deletion may take milliseconds where it looks for a shorter route: fewer of them tell as much. */
	time_updates(&input, UPDATES / 100);
	time_short(&input);
	rte_lpm_free(table4);
	rte_lpm6_free(table6);
	rte_eal_cleanup();
	return 0;
}
