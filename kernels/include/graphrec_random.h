/* Counter-based random numbers, the same on every device: a draw depends on its seed and counter only.
 *
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", Philox-4x32 with 10 rounds.
 */
#ifndef GRAPHREC_RANDOM_H
#define GRAPHREC_RANDOM_H

#include <stdint.h>

#if defined(__CUDACC__) || defined(GRAPHREC_EMULATION)
#define GRAPHREC_INLINE static __host__ __device__ inline
#else
#define GRAPHREC_INLINE static inline
#endif

typedef struct {
    uint32_t word[4];
} graphrec_random;

/* Four random words for the 128-bit counter (low, high) and a 64-bit key. */
GRAPHREC_INLINE graphrec_random graphrec_philox(uint64_t key, uint64_t low, uint64_t high) {
    uint32_t a = (uint32_t)low, b = (uint32_t)(low >> 32), c = (uint32_t)high, d = (uint32_t)(high >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t left = (uint64_t)0xD2511F53u * a, right = (uint64_t)0xCD9E8D57u * c;
        a = (uint32_t)(right >> 32) ^ b ^ k0;
        b = (uint32_t)right;
        c = (uint32_t)(left >> 32) ^ d ^ k1;
        d = (uint32_t)left;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    graphrec_random out = {{a, b, c, d}};
    return out;
}

/* A number in 0..bound-1, bound below 2^32; its distribution is within bound / 2^32 of uniform. */
GRAPHREC_INLINE uint32_t graphrec_below(uint32_t word, uint32_t bound) {
    return (uint32_t)(((uint64_t)word * bound) >> 32);
}

/* A float in [0, 1) with 24 random bits. */
GRAPHREC_INLINE float graphrec_unit(uint32_t word) { return (float)(word >> 8) * (1.0f / 16777216.0f); }

/* What attention dropout multiplies entry `counter` with: 0 with probability `dropout`, else 1 / (1 - dropout). */
GRAPHREC_INLINE float graphrec_keep(uint64_t seed, uint64_t counter, float dropout) {
    const graphrec_random draw = graphrec_philox(seed, counter >> 2, 0);
    return graphrec_unit(draw.word[counter & 3]) < dropout ? 0.0f : 1.0f / (1.0f - dropout);
}

/* -log2(u) * 2^31 for the uniform u = (word + 1/2) / 2^32, within 2^-27 of exact and at least 1: an exponential variable in
 * integers only, because a floating-point logarithm has other bits on every device. The smallest of graphrec_race(word) /
 * weight, divided as doubles, wins with a probability proportional to its weight.
 */
GRAPHREC_INLINE int64_t graphrec_race(uint32_t word) {
    const uint64_t odd = 2 * (uint64_t)word + 1; /* u * 2^33 */
    int exponent = 0;
    for (int step = 32; step > 0; step /= 2)
        if (odd >> (exponent + step)) exponent += step;
    const int64_t x = (int64_t)(((odd << (33 - exponent)) >> 2) & 0x7FFFFFFF); /* the mantissa less 1, times 2^31 */
    /* log2(1 + x) / x, interpolated at the 12 Chebyshev nodes of [0, 1], times 2^31. */
    int64_t sum = -3880714;
    sum = 27652981 + ((sum * x) >> 31);
    sum = -92325728 + ((sum * x) >> 31);
    sum = 196742375 + ((sum * x) >> 31);
    sum = -312350831 + ((sum * x) >> 31);
    sum = 415261078 + ((sum * x) >> 31);
    sum = -509487422 + ((sum * x) >> 31);
    sum = 618503401 + ((sum * x) >> 31);
    sum = -774429133 + ((sum * x) >> 31);
    sum = 1032715517 + ((sum * x) >> 31);
    sum = -1549081885 + ((sum * x) >> 31);
    sum = 3098164009 + ((sum * x) >> 31);
    const int64_t cost = ((int64_t)(33 - exponent) << 31) - ((sum * x) >> 31);
    return cost < 1 ? 1 : cost;
}

#endif
