//! `Seed`: numbers that look random and are the same in every run.

/// A generator (splitmix64) whose whole state is its seed.
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// Starts from a number; print it when a test fails.
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when `limit` is 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }

    /// True in so many cases of a hundred.
    pub const fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Lines of text, which compress about as well as source code.
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        const WORDS: &[&str] = &[
            "static ",
            "int ",
            "return ",
            "struct ",
            "volume",
            "->",
            "(",
            ");\n",
            " = ",
            "0x",
            "if (",
            "\t",
            "replicate",
            "/* ",
            " */\n",
            "const ",
            "void ",
            "size",
            "_t ",
            "buffer",
            "{\n",
            "}\n\n",
        ];
        let mut text = Vec::with_capacity(length + 16);
        while text.len() < length {
            text.extend_from_slice(self.pick(WORDS).as_bytes());
            if self.percent(20) {
                text.extend_from_slice(format!("{:x}", self.below(1 << 20)).as_bytes());
            }
        }
        text.truncate(length);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_every_time() {
        let (mut a, mut b) = (Seed::new(7), Seed::new(7));
        assert_eq!(a.bytes(100), b.bytes(100));
        assert_ne!(Seed::new(8).bytes(100), Seed::new(7).bytes(100));
        assert_eq!(Seed::new(1).below(0), 0);
    }
}
