//! The account's money: what is left, and how fast it may be spent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::catalog::Micros;

/// What a new account has: enough for a day of tests.
const BALANCE: f64 = 1000.0;

/// Dollars an hour, as RunPod limits new accounts.
const SPEND_LIMIT: f64 = 80.0;

/// Dollars that are left, and the limit of what may be spent an hour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Funds {
    pub balance: f64,
    /// Dollars an hour.
    pub spend_limit: f64,
}

/// The money, and what was taken of it.
#[derive(Clone, Copy, Debug)]
pub struct Bank {
    pub funds: Funds,
    /// Of all bills so far, in millionths of a dollar.
    billed: f64,
    /// When the next bill is due.
    pub next_tick: Timestamp,
}

impl Bank {
    #[must_use]
    pub fn new(next_tick: Timestamp) -> Self {
        Self { funds: Funds { balance: BALANCE, spend_limit: SPEND_LIMIT }, billed: 0.0, next_tick }
    }

    /// Takes what was not taken yet of all that was ever spent, in millionths of a dollar.
    pub fn bill(&mut self, spent: f64) {
        self.funds.balance -= (spent - self.billed) / 1e6;
        self.billed = spent;
    }

    /// Why something that costs this an hour cannot be started beside what runs already.
    #[must_use]
    pub fn refuses(&self, cost: Micros, running: Micros) -> Option<&'static str> {
        let (cost, running) = (super::catalog::dollars(cost), super::catalog::dollars(running));
        if self.funds.balance < cost {
            return Some(
                "insufficient balance to deploy this pod: at least one hour of its cost is required",
            );
        }
        (running + cost > self.funds.spend_limit).then_some("account spend limit reached")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_must_be_affordable_and_all_of_it_within_the_limit() {
        let mut bank = Bank::new(Timestamp::UNIX_EPOCH);
        bank.funds = Funds { balance: 1.0, spend_limit: 2.0 };
        assert_eq!(bank.refuses(1_000_000, 1_000_000), None);
        assert!(bank.refuses(1_000_001, 0).unwrap().contains("balance"));
        assert!(bank.refuses(500_000, 1_500_001).unwrap().contains("limit"));
        bank.bill(250_000.0);
        bank.bill(250_000.0);
        assert!((bank.funds.balance - 0.75).abs() < 1e-9);
    }
}
