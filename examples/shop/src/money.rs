//! Money: exact decimal arithmetic, written as text.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Mul};
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// An amount. Shown with three decimals, kept with all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(Decimal);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(Decimal::ZERO);

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.0 < Decimal::ZERO
    }

    /// Whether it can be the price of something: at most six decimals and a thousand million, so that charges of many rows stay
    /// exact.
    pub fn is_price(self) -> bool {
        self.0.normalize().scale() <= 6 && self.0.abs() <= Decimal::from(1_000_000_000)
    }

    /// All its decimals, for storing.
    pub fn exact(self) -> String {
        self.0.normalize().to_string()
    }
}

impl FromStr for Money {
    type Err = rust_decimal::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Decimal::from_str_exact(text.trim()).map(Money)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded here: a format's precision cuts digits off.
        write!(f, "{:.3}", self.0.round_dp(3))
    }
}

impl Add for Money {
    type Output = Money;
    fn add(self, other: Money) -> Money {
        Money(self.0 + other.0)
    }
}

impl Mul<i64> for Money {
    type Output = Money;
    fn mul(self, quantity: i64) -> Money {
        Money(self.0 * Decimal::from(quantity))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Money>>(amounts: I) -> Money {
        amounts.fold(Money::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_amount_is_rounded_half_to_even() {
        for (amount, shown) in
            [("0.0025", "0.002"), ("0.0035", "0.004"), ("0.0009", "0.001"), ("1e3", ""), ("7", "7.000")]
        {
            let text = amount.parse::<Money>().map(|money| money.to_string()).unwrap_or_default();
            assert_eq!(text, shown, "{amount}");
        }
    }

    #[test]
    fn amounts_are_exact_and_shown_with_three_decimals() {
        let price: Money = "0.1".parse().unwrap();
        assert_eq!((price * 3).to_string(), "0.300");
        assert_eq!((price + "0.001".parse().unwrap()).exact(), "0.101");
        assert!("-0.001".parse::<Money>().unwrap().is_negative());
        assert!("1,5".parse::<Money>().is_err());
    }
}
