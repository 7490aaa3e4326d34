// One Adam step in one pass: every array is read once and written once, so memory sets the time.
#include <cmath>

#include "device.h"

namespace {

constexpr int kThreads = 256;

template <typename T>
struct Step {
    T rate, share, decay, rest, epsilon, penalty, root_correction;

    __device__ __forceinline__ void operator()(T &parameter, T gradient, T &first, T &second) const {
        const T g = gradient + penalty * parameter;
        first += share * (g - first);
        second = decay * second + rest * g * g;
        parameter -= rate * first / (sqrt(second) / root_correction + epsilon);
    }
};

// A thread takes WIDTH elements; those past the last whole group of WIDTH are taken one by one.
template <typename T, typename G, int WIDTH>
__global__ void __launch_bounds__(kThreads) adam_step(const Step<T> step, int64_t count, T *parameter, const G *gradient,
                                                      T *first, T *second) {
    const int64_t thread = int64_t(blockIdx.x) * kThreads + threadIdx.x, groups = count / WIDTH;
    if (thread < groups) {
        const int64_t at = thread * WIDTH;
        auto p = load_pack<WIDTH>(parameter + at), m = load_pack<WIDTH>(first + at), v = load_pack<WIDTH>(second + at);
        typename Sum<G>::type g[WIDTH];
        widen(load_pack<WIDTH>(gradient + at), g);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) step(p.value[i], g[i], m.value[i], v.value[i]);
        store<WIDTH>(parameter + at, p.value);
        store<WIDTH>(first + at, m.value);
        store<WIDTH>(second + at, v.value);
    } else if (thread - groups < count - groups * WIDTH) {
        const int64_t at = groups * WIDTH + thread - groups;
        step(parameter[at], widen(gradient[at]), first[at], second[at]);
    }
}

template <typename T, typename G>
int32_t run(const Step<T> &step, int64_t count, T *parameter, const G *gradient, T *first, T *second, void *stream) {
    constexpr int kWidth = kVector<T>;
    if (aligned(parameter) && aligned(gradient) && aligned(first) && aligned(second))
        GRAPHREC_LAUNCH((adam_step<T, G, kWidth>), blocks_for(count / kWidth + kWidth - 1, kThreads), kThreads, 0, stream, step,
                        count, parameter, gradient, first, second);
    else
        GRAPHREC_LAUNCH((adam_step<T, G, 1>), blocks_for(count, kThreads), kThreads, 0, stream, step, count, parameter, gradient,
                        first, second);
    return launched();
}

}  // namespace

GRAPHREC_CUDA(adam)(int64_t dtype, int64_t gradient_dtype, int64_t count, void *parameter, const void *gradient, void *first_moment,
                    void *second_moment, double rate, double beta1, double beta2, double epsilon, double weight_decay,
                    int64_t step, void *stream) {
    if (count < 0 || step < 1) return GRAPHREC_BAD_SIZE;
    if (dtype != GRAPHREC_FLOAT32 && dtype != GRAPHREC_FLOAT64) return GRAPHREC_BAD_DTYPE;
    if (gradient_dtype != dtype && (dtype != GRAPHREC_FLOAT32 || gradient_dtype != GRAPHREC_BFLOAT16)) return GRAPHREC_BAD_DTYPE;
    if (count == 0) return GRAPHREC_OK;
    const double correction1 = 1 - std::pow(beta1, double(step)), correction2 = 1 - std::pow(beta2, double(step));
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        if constexpr (sizeof(T) >= sizeof(float)) {
            const Step<T> constants{T(rate / correction1), T(1 - beta1), T(beta2), T(1 - beta2), T(epsilon), T(weight_decay),
                                    T(std::sqrt(correction2))};
            const auto with = [&](auto *of_gradient) {
                return run(constants, count, static_cast<T *>(parameter), of_gradient, static_cast<T *>(first_moment),
                           static_cast<T *>(second_moment), stream);
            };
            if constexpr (sizeof(T) == sizeof(float))
                if (gradient_dtype == GRAPHREC_BFLOAT16) return with(static_cast<const bfloat16 *>(gradient));
            return with(static_cast<const T *>(gradient));
        }
        return GRAPHREC_BAD_DTYPE;
    });
}
