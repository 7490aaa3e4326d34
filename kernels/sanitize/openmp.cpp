// The part of the OpenMP runtime that the kernels use, on POSIX threads that ThreadSanitizer sees through.
//
// GCC's own runtime is not instrumented: its barriers are futexes, so every hand-over between the threads of a team would be
// reported as a race. Built into the library by GRAPHREC_SANITIZE=thread only. Regions do not nest, as in the kernels.
#include <pthread.h>

#include <cstdlib>

namespace {

struct Loop {
    long next, end, step, chunk;
    bool begun = false;
};

constexpr int kMostLoops = 1024;  // of one parallel region; the kernels have a few
constexpr int kMostThreads = 64;

struct Team {
    void (*run)(void *);
    void *data;
    int size;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_barrier_t barrier;
    Loop loops[kMostLoops];  // each thread meets them in the same order, but not at the same time
};

struct Member {
    Team *team;
    int number;
    int loop;  // the one it is in
};

thread_local Member member = {nullptr, 0, -1};

void *start(void *argument) {
    member = *static_cast<Member *>(argument);
    member.team->run(member.team->data);
    return nullptr;
}

bool take(long *begin, long *end) {
    Team &team = *member.team;
    Loop &loop = team.loops[member.loop];
    pthread_mutex_lock(&team.lock);
    const bool some = loop.next < loop.end;
    if (some) {
        *begin = loop.next;
        loop.next = *end = loop.next + loop.chunk * loop.step < loop.end ? loop.next + loop.chunk * loop.step : loop.end;
    }
    pthread_mutex_unlock(&team.lock);
    return some;
}

bool begin_loop(long first, long end, long step, long chunk, long *from, long *to) {
    Team &team = *member.team;
    if (++member.loop >= kMostLoops || step < 0) abort();
    Loop &loop = team.loops[member.loop];
    pthread_mutex_lock(&team.lock);
    if (!loop.begun) loop = {first, end, step, chunk, true};
    pthread_mutex_unlock(&team.lock);
    return take(from, to);
}

}  // namespace

extern "C" {

int omp_get_thread_num() { return member.number; }
int omp_get_num_threads() { return member.team ? member.team->size : 1; }

void GOMP_barrier() { pthread_barrier_wait(&member.team->barrier); }
void GOMP_loop_end() { GOMP_barrier(); }
void GOMP_loop_end_nowait() {}  // the team ends after the loop, or a barrier follows

bool GOMP_loop_nonmonotonic_dynamic_start(long first, long end, long step, long chunk, long *from, long *to) {
    return begin_loop(first, end, step, chunk, from, to);
}
bool GOMP_loop_nonmonotonic_dynamic_next(long *from, long *to) { return take(from, to); }

void GOMP_parallel(void (*run)(void *), void *data, unsigned num_threads, unsigned) {
    if (num_threads < 1 || num_threads > kMostThreads) abort();
    static Team team;  // too large for a stack; regions do not nest and one Python thread calls them
    team.run = run, team.data = data, team.size = int(num_threads);
    for (Loop &loop : team.loops) loop.begun = false;
    pthread_barrier_init(&team.barrier, nullptr, num_threads);
    Member members[kMostThreads];
    pthread_t threads[kMostThreads];
    for (int i = 0; i < team.size; ++i) members[i] = {&team, i, -1};
    for (int i = 1; i < team.size; ++i) pthread_create(&threads[i], nullptr, start, &members[i]);
    start(&members[0]);
    member = {nullptr, 0, -1};
    for (int i = 1; i < team.size; ++i) pthread_join(threads[i], nullptr);
    pthread_barrier_destroy(&team.barrier);
}
}
