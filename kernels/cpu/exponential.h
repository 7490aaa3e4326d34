// The exponential of a vector, which the C library has only for scalars. Include after kernel.h.
#pragma once

namespace {

// Within 2 units in the last place for x <= 0; 0 below the smallest normal number; NaN stays NaN.
inline Vector<float>::type exponential(Vector<float>::type x) {
    using V = Vector<float>::type;
    typedef int32_t Bits __attribute__((vector_size(kVectorBytes)));
    constexpr float kLowest = -87.33654f, kRound = 12582912.0f;  // log of the smallest normal; 1.5 * 2^23 rounds to integers
    const V inside = x < kLowest ? V{} + kLowest : x;
    const V shifted = inside * 1.44269504f + kRound;
    const V power = shifted - kRound;
    // log 2 in two parts, so that the difference is exact to float's last place: |rest| <= log(2) / 2.
    const V rest = (inside - power * 0.693359375f) + power * 2.12194440e-4f;
    // The Taylor polynomial with its last coefficients moved to spread the error (Cephes' expf uses the same degree).
    V sum = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    Bits bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + (127 << 23);  // the low bits of `shifted` hold the integer
    V scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return x < kLowest ? V{} : sum * scale;
}

inline Vector<double>::type exponential(Vector<double>::type x) {
    for (int lane = 0; lane < Vector<double>::lanes; ++lane) x[lane] = __builtin_exp(x[lane]);
    return x;
}

inline float exponential(float x) { return __builtin_expf(x); }
inline double exponential(double x) { return __builtin_exp(x); }
inline float logarithm(float x) { return __builtin_logf(x); }
inline double logarithm(double x) { return __builtin_log(x); }

}  // namespace
