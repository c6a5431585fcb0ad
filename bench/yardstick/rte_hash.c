/*
 * DPDK's rte_hash, timed as benches/tables times the FDB: the same keys from the same seed, asked for in the same
 * order, as often, in the same three ways. benches/tables compiles and starts this program and reads what it prints:
 * one JSON object a line, first what was measured, then a figure each.
 *
 * usage: rte_hash plain|lf small|huge COUNT CORE [SECOND_CORE]
 *
 * `plain` is for one thread; `lf` has lock-free readers (RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF). `small` is pages of
 * 4 KiB, `huge` of 2 MiB (transparent ones, so that nothing needs to be set aside). Runs without privileges and leaves
 * no file.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_version.h>

/* The figures of benches/tables/keys.rs and measure.rs; the sum over the keys shows when they part. */
#define BURST 64
#define PORTS 256
#define LOOKUPS_MIN ((size_t)1 << 20)
#define WARM_UP ((size_t)1 << 16)
#define LEARN_TWO_MIN ((size_t)1 << 16)

#define HUGE_PAGE ((size_t)2 << 20)
#define HEAP_BYTES ((size_t)192 << 20)
#define HEAP_NAME "huge"

static void fail(const char *format, ...)
{
	va_list words;

	va_start(words, format);
	fputs("rte_hash: ", stderr);
	vfprintf(stderr, format, words);
	fputc('\n', stderr);
	va_end(words);
	exit(1);
}

/* ---- keys ---- */

/* SplitMix64. */
static uint64_t draw(uint64_t *state)
{
	uint64_t mixed = *state += UINT64_C(0x9e3779b97f4a7c15);

	mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
	return mixed ^ mixed >> 31;
}

struct keys {
	size_t count;     /* of `known` */
	size_t asked;     /* of the other two: whole bursts */
	uint64_t *known;  /* in the order of learning */
	uint64_t *hits;   /* the same in another order */
	uint64_t *misses; /* of stations that were never learned */
};

static uint64_t *draw_stations(uint64_t *state, size_t count, uint64_t octet)
{
	uint64_t *keys = malloc(count * sizeof(*keys));

	if (keys == NULL)
		fail("no memory for %zu keys", count);
	/* Bridge domain 1 above the 48 bits of the address. */
	for (size_t i = 0; i < count; i++)
		keys[i] = UINT64_C(1) << 48 | octet << 40 | (draw(state) & UINT64_C(0xffffffffff));
	return keys;
}

static void shuffle(uint64_t *state, uint64_t *keys, size_t count)
{
	for (size_t i = count - 1; i > 0; i--) {
		size_t other = draw(state) % (i + 1);
		uint64_t key = keys[i];

		keys[i] = keys[other];
		keys[other] = key;
	}
}

static struct keys make_keys(size_t count)
{
	struct keys keys = { .count = count, .asked = count / BURST * BURST };
	uint64_t state = count;

	keys.known = draw_stations(&state, count, 0x02);
	keys.misses = draw_stations(&state, count, 0x06);
	keys.hits = malloc(count * sizeof(*keys.hits));
	if (keys.hits == NULL)
		fail("no memory for %zu keys", count);
	memcpy(keys.hits, keys.known, count * sizeof(*keys.hits));
	shuffle(&state, keys.hits, count);
	return keys;
}

static uint64_t add_up(uint64_t sum, const uint64_t *keys, size_t count)
{
	for (size_t i = 0; i < count; i++)
		sum = (sum ^ keys[i]) * UINT64_C(0x100000001b3);
	return sum;
}

/* ---- the table ---- */

/* rte_hash compares keys of 8 bytes with memcmp unless told how; this is quicker. */
static int compare(const void *a, const void *b, size_t length)
{
	(void)length;
	return *(const uint64_t *)a != *(const uint64_t *)b;
}

static struct rte_hash *make_table(size_t count, uint8_t flags, int socket)
{
	static unsigned int made;
	char name[RTE_HASH_NAMESIZE];
	struct rte_hash_parameters parameters = {
		.name = name,
		/* A table that is all but full may refuse a key, and more room than this makes it no quicker. */
		.entries = count + count / 7,
		.key_len = sizeof(uint64_t),
		.hash_func = rte_hash_crc,
		.socket_id = socket,
		.extra_flag = flags,
	};
	struct rte_hash *table;

	snprintf(name, sizeof(name), "yardstick%u", made++);
	table = rte_hash_create(&parameters);
	if (table == NULL)
		fail("no table for %zu entries: %s", count, rte_strerror(rte_errno));
	rte_hash_set_cmp_func(table, compare);
	return table;
}

static void learn(const struct rte_hash *table, const uint64_t *keys, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (rte_hash_add_key_data(table, &keys[i], (void *)(uintptr_t)(i % PORTS)) != 0)
			fail("the table refused entry %zu", i);
}

/* Sum of the ports found for a burst, and how many were found, in one of three ways. */
typedef uint64_t (*ask)(const struct rte_hash *table, const uint64_t *burst, uint64_t *found);

/* The whole burst in one call. */
static uint64_t in_bulk(const struct rte_hash *table, const uint64_t *burst, uint64_t *found)
{
	const void *keys[BURST];
	void *ports[BURST];
	uint64_t hits = 0, sum = 0;

	for (int i = 0; i < BURST; i++)
		keys[i] = &burst[i];
	rte_hash_lookup_bulk_data(table, keys, BURST, &hits, ports);
	*found += __builtin_popcountll(hits);
	for (; hits != 0; hits &= hits - 1)
		sum += (uintptr_t)ports[__builtin_ctzll(hits)];
	return sum;
}

/* A call for each, none waiting for another. */
static uint64_t in_a_loop(const struct rte_hash *table, const uint64_t *burst, uint64_t *found)
{
	uint64_t sum = 0;
	void *port;

	for (int i = 0; i < BURST; i++) {
		if (rte_hash_lookup_data(table, &burst[i], &port) >= 0) {
			sum += (uintptr_t)port;
			++*found;
		}
	}
	return sum;
}

/* A call for each, whose key depends on the last answer. */
static uint64_t chained(const struct rte_hash *table, const uint64_t *burst, uint64_t *found)
{
	uint64_t sum = 0;
	void *port;

	for (int i = 0; i < BURST; i++) {
		uint64_t after = sum & 1 << 20, key;

		__asm__ volatile("" : "+r"(after));
		key = burst[i] ^ after;
		if (rte_hash_lookup_data(table, &key, &port) >= 0) {
			sum += (uintptr_t)port;
			++*found;
		}
	}
	return sum;
}

/* ---- measuring ---- */

static void print(const char *figure, uint64_t cycles, size_t count)
{
	double each = (double)cycles / (double)count;

	printf("{\"figure\":\"%s\",\"ns\":%.3f,\"cycles\":%.1f}\n", figure, each * 1e9 / (double)rte_get_tsc_hz(),
	       each);
}

/* Asks for `asked` keys over and over, beginning with number `from`, at least `least` times. Returns how often. */
static size_t pass(const struct rte_hash *table, const uint64_t *keys, size_t asked, size_t from, size_t least,
		   ask way, bool hit)
{
	uint64_t found = 0, sum = 0;
	size_t at = from, done = 0;

	while (done < least) {
		sum += way(table, &keys[at], &found);
		at = at + BURST == asked ? 0 : at + BURST;
		done += BURST;
	}
	__asm__ volatile("" : : "r"(sum));
	if (found != (hit ? done : 0))
		fail("%" PRIu64 " of %zu keys found", found, done);
	return done;
}

static void time_lookups(const struct rte_hash *table, const struct keys *keys)
{
	static const struct { const char *name; ask way; bool hit; } figures[] = {
		{ "hit_bulk", in_bulk, true },     { "hit_loop", in_a_loop, true },   { "hit_chained", chained, true },
		{ "miss_bulk", in_bulk, false },   { "miss_loop", in_a_loop, false }, { "miss_chained", chained, false },
	};

	for (size_t i = 0; i < RTE_DIM(figures); i++) {
		const uint64_t *asked = figures[i].hit ? keys->hits : keys->misses;
		size_t done;
		uint64_t start;

		pass(table, asked, keys->asked, 0, WARM_UP, figures[i].way, figures[i].hit);
		start = rte_rdtsc_precise();
		done = pass(table, asked, keys->asked, 0, LOOKUPS_MIN, figures[i].way, figures[i].hit);
		print(figures[i].name, rte_rdtsc_precise() - start, done);
	}
}

/* What each of two threads does. */
struct share {
	const struct rte_hash *table;
	const struct keys *keys;
	bool learns;
	bool second;
};

static uint32_t ready;

static int work(void *argument)
{
	const struct share *share = argument;
	const struct keys *keys = share->keys;
	size_t half = keys->count / 2;

	/* Both at once. */
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) < 2)
		rte_pause();
	if (share->learns)
		learn(share->table, keys->known, share->second ? half : 0, share->second ? keys->count : half);
	else
		pass(share->table, keys->hits, keys->asked, share->second ? keys->asked / 2 / BURST * BURST : 0,
		     LOOKUPS_MIN, in_bulk, true);
	return 0;
}

/* Cycles until both threads are done. */
static uint64_t both(const struct rte_hash *table, const struct keys *keys, bool learns,
		     unsigned int second_core)
{
	struct share mine = { table, keys, learns, false }, other = { table, keys, learns, true };
	uint64_t start;

	ready = 0;
	if (rte_eal_remote_launch(work, &other, second_core) != 0)
		fail("no thread on core %u", second_core);
	while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) < 1)
		rte_pause();
	start = rte_rdtsc_precise();
	work(&mine);
	rte_eal_wait_lcore(second_core);
	return rte_rdtsc_precise() - start;
}

static void time_two(const struct rte_hash *table, const struct keys *keys, uint8_t flags, int socket,
		     unsigned int second_core)
{
	struct rte_hash *empty;

	print("hit_two", both(table, keys, false, second_core), 2 * LOOKUPS_MIN);
	if (keys->count < LEARN_TWO_MIN)
		return;
	empty = make_table(keys->count, flags | RTE_HASH_EXTRA_FLAGS_MULTI_WRITER_ADD, socket);
	print("learn_two", both(empty, keys, true, second_core), keys->count);
	rte_hash_free(empty);
}

/* ---- set-up ---- */

/* A heap of DPDK's in transparent huge pages; its socket number. */
static int huge_heap(void)
{
	char *memory = mmap(NULL, HEAP_BYTES + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		fail("no memory for a heap");
	memory += -(uintptr_t)memory % HUGE_PAGE;
	if (madvise(memory, HEAP_BYTES, MADV_HUGEPAGE) != 0)
		fail("no transparent huge pages here");
	if (rte_malloc_heap_create(HEAP_NAME) != 0 ||
	    rte_malloc_heap_memory_add(HEAP_NAME, memory, HEAP_BYTES, NULL, HEAP_BYTES / HUGE_PAGE, HUGE_PAGE) != 0)
		fail("no heap in huge pages: %s", rte_strerror(rte_errno));
	return rte_malloc_heap_get_socket(HEAP_NAME);
}

static size_t allocated(int socket)
{
	struct rte_malloc_socket_stats stats;
	size_t bytes = 0;

	/* The list of free places always lies on an ordinary socket. */
	if (rte_malloc_get_socket_stats(0, &stats) == 0)
		bytes += stats.heap_allocsz_bytes;
	if (socket > 0 && rte_malloc_get_socket_stats(socket, &stats) == 0)
		bytes += stats.heap_allocsz_bytes;
	return bytes;
}

/* DPDK makes a directory for files that --no-shconf keeps it from writing. */
static void remove_directory(void)
{
	rmdir(rte_eal_get_runtime_dir());
}

static void start_dpdk(const char *program, const char *core, const char *second_core)
{
	char cores[32], prefix[32];
	const char *arguments[] = { program, "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "--log-level=error",
				    "-m", "192", "--main-lcore", core, "-l", cores, "--file-prefix", prefix, NULL };

	snprintf(prefix, sizeof(prefix), "yardstick%d", (int)getpid());
	atexit(remove_directory);
	if (second_core != NULL)
		snprintf(cores, sizeof(cores), "%s,%s", core, second_core);
	else
		snprintf(cores, sizeof(cores), "%s", core);
	if (rte_eal_init(RTE_DIM(arguments) - 1, (char **)arguments) < 0)
		fail("DPDK does not start: %s", rte_strerror(rte_errno));
}

int main(int argc, char **argv)
{
	if (argc < 5 || argc > 6)
		fail("usage: rte_hash plain|lf small|huge COUNT CORE [SECOND_CORE]");
	bool lock_free = strcmp(argv[1], "lf") == 0;
	bool huge = strcmp(argv[2], "huge") == 0;
	size_t count = strtoul(argv[3], NULL, 10);
	if (count < BURST)
		fail("COUNT is %s: at least %d", argv[3], BURST);
	start_dpdk(argv[0], argv[4], argc > 5 ? argv[5] : NULL);

	struct keys keys = make_keys(count);
	uint64_t sum = add_up(add_up(add_up(0, keys.known, count), keys.hits, count), keys.misses, count);
	int socket = huge ? huge_heap() : 0;
	uint8_t flags = lock_free ? RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF : 0;
	size_t before = allocated(socket);
	struct rte_hash *table = make_table(count, flags, socket);
	uint64_t start = rte_rdtsc_precise();
	learn(table, keys.known, 0, count);
	uint64_t learned = rte_rdtsc_precise() - start;

	printf("{\"keys\":\"%016" PRIx64 "\",\"bytes\":%zu,\"tsc_hz\":%" PRIu64 ",\"version\":\"%s\"}\n", sum,
	       allocated(socket) - before, rte_get_tsc_hz(), rte_version());
	print("learn", learned, count);
	time_lookups(table, &keys);
	if (lock_free && argc > 5)
		time_two(table, &keys, flags, socket, strtoul(argv[5], NULL, 10));
	rte_hash_free(table);
	rte_eal_cleanup();
	return 0;
}
