// One Adam step in one pass: every array is read once and written once, so memory sets the time.
#include "kernel.h"

namespace {

inline float root(float x) { return __builtin_sqrtf(x); }
inline double root(double x) { return __builtin_sqrt(x); }

constexpr int64_t kBlock = 4096;  // elements handed to a thread together; whole cache lines

struct Constants {
    double rate, beta1, beta2, epsilon, weight_decay, correction1, correction2;
};

template <typename T, typename G>
void update(const Constants &constants, int64_t count, T *__restrict__ parameter, const G *__restrict__ gradient,
            T *__restrict__ first, T *__restrict__ second) {
    const T rate = T(constants.rate / constants.correction1), share = T(1 - constants.beta1), decay = T(constants.beta2);
    const T rest = T(1 - constants.beta2), epsilon = T(constants.epsilon), penalty = T(constants.weight_decay);
    const T root_correction = T(__builtin_sqrt(constants.correction2));
    for (int64_t i = 0; i < count; ++i) {
        const T g = widen(gradient[i]) + penalty * parameter[i];
        const T m = first[i] + share * (g - first[i]);
        const T v = decay * second[i] + rest * g * g;
        first[i] = m;
        second[i] = v;
        parameter[i] -= rate * m / (root(v) / root_correction + epsilon);
    }
}

template <typename T, typename G>
int32_t run(const Constants &constants, int64_t count, T *parameter, const G *gradient, T *first, T *second, int64_t num_threads) {
#pragma omp parallel for schedule(static) num_threads(int(num_threads))
    for (int64_t block = 0; block < (count + kBlock - 1) / kBlock; ++block) {
        const int64_t start = block * kBlock, left = count - start;
        update(constants, left < kBlock ? left : kBlock, parameter + start, gradient + start, first + start, second + start);
    }
    return GRAPHREC_OK;
}

}  // namespace

GRAPHREC_CPU(adam)(int64_t dtype, int64_t gradient_dtype, int64_t count, void *parameter, const void *gradient, void *first_moment,
                   void *second_moment, double rate, double beta1, double beta2, double epsilon, double weight_decay,
                   int64_t step, int64_t num_threads) {
    if (count < 0 || step < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    if (dtype != GRAPHREC_FLOAT32 && dtype != GRAPHREC_FLOAT64) return GRAPHREC_BAD_DTYPE;
    if (gradient_dtype != dtype && (dtype != GRAPHREC_FLOAT32 || gradient_dtype != GRAPHREC_BFLOAT16)) return GRAPHREC_BAD_DTYPE;
    const Constants constants{rate, beta1, beta2, epsilon, weight_decay, 1 - __builtin_pow(beta1, double(step)),
                              1 - __builtin_pow(beta2, double(step))};
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        if constexpr (sizeof(T) >= sizeof(float)) {
            const auto with = [&](auto *of_gradient) {
                return run(constants, count, static_cast<T *>(parameter), of_gradient, static_cast<T *>(first_moment),
                           static_cast<T *>(second_moment), num_threads);
            };
            if constexpr (sizeof(T) == sizeof(float))
                if (gradient_dtype == GRAPHREC_BFLOAT16) return with(static_cast<const bfloat16 *>(gradient));
            return with(static_cast<const T *>(gradient));
        }
        return GRAPHREC_BAD_DTYPE;
    });
}
