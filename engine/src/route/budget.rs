//! Limits on what a peer may make us do: a token bucket, refilled by time.

/// Permits `per_second` things a second, and `burst` of them at once.
#[derive(Debug)]
pub(crate) struct Budget {
    per_second: u32,
    burst: u32,
    /// Tokens in millionths.
    tokens: u64,
    filled_us: u64,
}

const TOKEN: u64 = 1_000_000;

impl Budget {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second,
            burst,
            tokens: u64::from(burst) * TOKEN,
            filled_us: 0,
        }
    }

    /// Takes one token if there is one.
    pub(crate) fn take(&mut self, now_us: u64) -> bool {
        let elapsed_us = now_us.saturating_sub(self.filled_us);
        self.filled_us = now_us.max(self.filled_us);
        let refill = elapsed_us.saturating_mul(u64::from(self.per_second));
        self.tokens = self
            .tokens
            .saturating_add(refill)
            .min(u64::from(self.burst) * TOKEN);
        let enough = self.tokens >= TOKEN;
        if enough {
            self.tokens -= TOKEN;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_granted_then_the_rate() {
        let mut budget = Budget::new(100, 10);
        let granted =
            |budget: &mut Budget, now_us| (0..1000).filter(|_| budget.take(now_us)).count();
        assert_eq!(granted(&mut budget, 0), 10);
        assert_eq!(granted(&mut budget, 50_000), 5);
        assert_eq!(granted(&mut budget, 10_000_000), 10);
    }
}
