// What each byte was last used for, and the functions that code compiled with -fsanitize=thread calls.
#include "races.h"

#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <memory>
#include <string>
#include <unordered_map>

#include "emulation.h"

namespace emulation::races {

namespace {

constexpr int kLanes = 32;

// An interval is what one block does between two of its barriers; their numbers grow through all blocks and launches.
// Within one, lanes of a warp are ordered by the generations of the warp, one for each __syncwarp.
uint32_t interval, first_of_block, first_of_grid;
uint32_t generation[kMaxThreads / kLanes];
uint32_t known[kMaxThreads][kLanes];  // a lane's accesses of earlier generations come before what this thread does now
Range arrays, dynamic, stacks;
bool watching = true;

// Accesses of one kind that do not race with each other, reads or atomics. Those before the last one are kept as far as a later
// access may race with them.
struct Uses {
    uint32_t first, last;  // intervals of the first one in this launch and of the last
    uint32_t generation;   // of the last
    uint32_t warps;        // in the last interval
    uint32_t lanes;        // of the last one's warp, but for those that come before it
    int32_t at;            // the last one's place in the code, from `code_base` on
    uint16_t thread;       // the last one's
};
struct Byte {
    Uses reads, atomics;
    uint32_t written, write_generation;  // by an access that is no atomic: interval and generation
    int32_t write_at;
    uint16_t writer;
};
constexpr uintptr_t kPage = 4096;
struct Page {
    Byte bytes[kPage];
};
const char code_base = 0;

bool within(const Range &range, uintptr_t at) { return at - reinterpret_cast<uintptr_t>(range.begin) < range.bytes; }

Page &page_of(uintptr_t at) {
    static std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
    static uintptr_t last = 0;
    static Page *page = nullptr;
    if (page && at / kPage == last) return *page;
    std::unique_ptr<Page> &found = pages[at / kPage];
    if (!found) found = std::make_unique<Page>();
    last = at / kPage, page = found.get();
    return *page;
}

// The source line of a return address, as addr2line knows it.
std::string line_of(int32_t place) {
    const void *code = &code_base + place;
    Dl_info library;
    if (!dladdr(code, &library) || !library.dli_fname) return "an unknown place";
    const size_t offset = size_t(static_cast<const char *>(code) - static_cast<const char *>(library.dli_fbase)) - 1;
    char command[4400], line[400] = "";
    std::snprintf(command, sizeof command, "addr2line -s -e '%s' 0x%zx 2>/dev/null", library.dli_fname, offset);
    if (FILE *lines = popen(command, "r")) {
        if (!std::fgets(line, sizeof line, lines)) line[0] = 0;
        pclose(lines);
    }
    line[std::strcspn(line, "\n ")] = 0;
    if (line[0] && line[0] != '?') return line;
    std::snprintf(line, sizeof line, "offset 0x%zx", offset);
    return line;
}

struct Now {
    int thread, warp;
    bool shared;      // the memory
    int32_t at;       // place in the code
    const char *does;  // what this access does
};

[[noreturn]] void report(const Now &now, const char *did, int thread, int32_t at, bool other_block) {
    char who[40] = "another block";
    if (!other_block && thread == now.thread) std::snprintf(who, sizeof who, "other threads");
    else if (!other_block) std::snprintf(who, sizeof who, "thread %d", thread);
    const std::string here = line_of(now.at), there = line_of(at);
    fail("block (%u, %u, %u), thread %d %s at %s what %s %s at %s%s: a race for %s memory", block_index.x, block_index.y,
         block_index.z, now.thread, now.does, here.c_str(), who, did, there.c_str(), other_block ? "" : " with no barrier between",
         now.shared ? "shared" : "global");
}

// Whether an access of this interval comes before what this thread does now.
bool ordered(int before, uint32_t before_generation, const Now &now) {
    return before == now.thread || (before / kLanes == now.warp && before_generation < known[now.thread][before % kLanes]);
}
bool of_another_block(uint32_t when) { return when >= first_of_grid && when < first_of_block; }

// Whether all of this interval's uses come before what this thread does now.
bool ordered(const Uses &uses, const Now &now) {
    if (uses.warps & ~(uint32_t(1) << now.warp)) return false;
    for (uint32_t lanes = uses.lanes; lanes; lanes &= lanes - 1)
        if (!ordered(now.warp * kLanes + __builtin_ctz(lanes), uses.generation, now)) return false;
    return true;
}

void check_uses(const Uses &uses, const char *did, const Now &now) {
    if (!now.shared && of_another_block(uses.first)) report(now, did, uses.thread, uses.at, true);
    if (uses.last == interval && !ordered(uses, now)) report(now, did, uses.thread, uses.at, false);
}
void check_write(const Byte &byte, const Now &now) {
    const bool races = byte.written == interval ? !ordered(byte.writer, byte.write_generation, now)
                                                : !now.shared && of_another_block(byte.written);
    if (races) report(now, "wrote", byte.writer, byte.write_at, byte.written != interval);
}

void add(Uses &uses, const Now &now) {
    if (uses.first < first_of_grid) uses.first = interval;
    if (uses.last != interval) uses.warps = uses.lanes = 0;
    // Where all uses so far come before this one it stands for them; where another warp's do not, whatever writes will race.
    if (uses.thread / kLanes != now.warp || ordered(uses, now)) uses.lanes = 0;
    uses.last = interval, uses.generation = generation[now.warp], uses.thread = uint16_t(now.thread), uses.at = now.at;
    uses.warps |= uint32_t(1) << now.warp, uses.lanes |= uint32_t(1) << (now.thread % kLanes);
}

void read(Byte &byte, const Now &now) {
    const Uses &reads = byte.reads;
    const bool again = reads.last == interval && reads.thread == now.thread && reads.generation == generation[now.warp];
    if (again && byte.written < first_of_grid && byte.atomics.last < first_of_grid) return;
    check_write(byte, now);
    check_uses(byte.atomics, "changed", now);
    add(byte.reads, now);
}

void write(Byte &byte, const Now &now) {
    check_write(byte, now);
    check_uses(byte.reads, "read", now);
    check_uses(byte.atomics, "changed", now);
    byte.written = interval, byte.write_generation = generation[now.warp];
    byte.write_at = now.at, byte.writer = uint16_t(now.thread);
}

void change(Byte &byte, const Now &now) {  // atomically
    check_write(byte, now);
    check_uses(byte.reads, "read", now);
    add(byte.atomics, now);
}

void access(const void *address, size_t size, void (*use)(Byte &, const Now &), const char *does, const void *code) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(address);
    if (!watching || !current || within(stacks, at)) return;  // the host's, or a thread's own
    const int thread = int(current - fibers);
    const Now now{thread, thread / kLanes, within(arrays, at) || within(dynamic, at),
                  int32_t(static_cast<const char *>(code) - &code_base), does};
    for (uintptr_t byte = at; byte < at + size; ++byte) use(page_of(byte).bytes[byte % kPage], now);
}

}  // namespace

void start_grid(Range arrays_of_grid, Range dynamic_of_grid, Range stacks_of_grid) {
    arrays = arrays_of_grid, dynamic = dynamic_of_grid, stacks = stacks_of_grid;
    first_of_grid = ++interval;
}
void start_block() { first_of_block = ++interval; }
void meet_block() { ++interval; }
void meet_warp(int first_thread, uint32_t lanes) {
    uint32_t *now = &generation[first_thread / kLanes], all[kLanes] = {};
    ++*now;
    for (int lane = 0; lane < kLanes; ++lane)
        for (int other = 0; other < kLanes && (lanes >> lane & 1); ++other) {
            const uint32_t its = lane == other ? *now : known[first_thread + lane][other];
            if (its > all[other]) all[other] = its;
        }
    for (int lane = 0; lane < kLanes; ++lane)
        if (lanes >> lane & 1) std::memcpy(known[first_thread + lane], all, sizeof all);
}
void access_atomically(const void *at, size_t bytes, const void *code) { access(at, bytes, change, "changes", code); }
void access_by_reading(const void *at, size_t bytes, const void *code) { access(at, bytes, read, "reads", code); }
void access_by_writing(const void *at, size_t bytes, const void *code) { access(at, bytes, write, "writes", code); }

}  // namespace emulation::races

// Whether races are looked for, which takes time; they are unless told otherwise.
extern "C" __attribute__((visibility("default"))) void graphrec_emulation_races(int64_t watched) {
    emulation::races::watching = watched != 0;
}

#define GRAPHREC_WATCHED(name, size) emulation::races::access_by_##name(at, size, __builtin_return_address(0))
#define GRAPHREC_ACCESSES(size)                                               \
    void __tsan_read##size(void *at) { GRAPHREC_WATCHED(reading, size); }         \
    void __tsan_write##size(void *at) { GRAPHREC_WATCHED(writing, size); }        \
    void __tsan_unaligned_read##size(void *at) { GRAPHREC_WATCHED(reading, size); } \
    void __tsan_unaligned_write##size(void *at) { GRAPHREC_WATCHED(writing, size); }
extern "C" {
GRAPHREC_ACCESSES(1)
GRAPHREC_ACCESSES(2)
GRAPHREC_ACCESSES(4)
GRAPHREC_ACCESSES(8)
GRAPHREC_ACCESSES(16)
void __tsan_read_range(void *at, size_t size) { GRAPHREC_WATCHED(reading, size); }
void __tsan_write_range(void *at, size_t size) { GRAPHREC_WATCHED(writing, size); }
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_init() {}
}
