//! The polynomial by which a new repository cuts files: random, of degree 53, irreducible.
//!
//! A polynomial over GF(2) is a number whose bits are its coefficients.

use aws_lc_rs::rand;

use crate::format::Error;

const DEGREE: u32 = 53;

/// A new polynomial. One of about 27 odd candidates is irreducible.
pub fn random_polynomial() -> Result<u64, Error> {
    loop {
        let mut bytes = [0; 8];
        rand::fill(&mut bytes).map_err(|_| Error::Crypto)?;
        let candidate = u64::from_le_bytes(bytes) & ((1 << DEGREE) - 1) | 1 << DEGREE | 1;
        if is_irreducible(candidate) {
            return Ok(candidate);
        }
    }
}

/// Ben-Or's test: no factor of degree i divides x^(2^i) - x, for each i up to half the degree.
fn is_irreducible(polynomial: u64) -> bool {
    let mut power = 2;
    (1..=DEGREE / 2).all(|_| {
        power = square(power, polynomial);
        greatest_common_divisor(polynomial, power ^ 2) == 1
    })
}

fn square(value: u64, modulus: u64) -> u64 {
    let mut product = 0;
    for bit in (0..DEGREE).rev() {
        product <<= 1;
        if product >> DEGREE & 1 == 1 {
            product ^= modulus;
        }
        if value >> bit & 1 == 1 {
            product ^= value;
        }
    }
    product
}

fn greatest_common_divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, remainder(one, other));
    }
    one
}

fn remainder(mut value: u64, divisor: u64) -> u64 {
    while value != 0 && value.ilog2() >= divisor.ilog2() {
        value ^= divisor << (value.ilog2() - divisor.ilog2());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is the one of restic's own tests.
    #[test]
    fn polynomials_of_restic_are_irreducible_and_products_are_not() {
        assert!(is_irreducible(0x3d_a335_8b4d_c173));
        for even in [1 << 53, 0x3d_a335_8b4d_c172] {
            assert!(!is_irreducible(even));
        }
        // (x + 1) times something has an even number of coefficients.
        assert!(!is_irreducible(1 << 53 | 1));
        let made = random_polynomial().unwrap();
        assert_eq!((made >> 53, made & 1, made.count_ones() % 2), (1, 1, 1));
    }
}
