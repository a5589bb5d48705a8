//! Finds the first thing on which two accounts of one session differ, and looks it up in the table.

use std::collections::HashMap;

use peers::libnbd;
use peers::outcome::{Account, Ending};

/// A difference, as a row of the table names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Difference {
    pub ours: String,
    pub libnbd: String,
}

/// The first difference. Two refusals are none, whatever their reasons.
pub fn difference(ours: &Account, libnbd: &Account) -> Option<Difference> {
    let different = |ours: String, libnbd: String| Some(Difference { ours, libnbd });
    match (&ours.export, &libnbd.export) {
        (Ok(mine), Ok(theirs)) if mine == theirs => {}
        (Ok(mine), Ok(theirs)) => {
            let fields = mine.differences(theirs);
            return different("accepts".into(), format!("accepts, {fields}"));
        }
        (Ok(_), Err(reason)) => return different("accepts".into(), format!("refuses: {reason}")),
        (Err(reason), Ok(_)) if reason == crate::ours::LISTS => return None,
        (Err(reason), Ok(_)) => return different(format!("refuses: {reason}"), "accepts".into()),
        (Err(_), Err(reason)) if *reason == libnbd::HANGS || reason.starts_with("signal") => {
            return different("refuses".into(), reason.clone());
        }
        (Err(_), Err(_)) => return None,
    }
    // Where one client gave the connection up, the other need not fail the same operation: any that
    // it did not accept among those lost is the one.
    let lost = |one: &Account, other: &Account| {
        let mut pairs = one.operations.iter().zip(&other.operations);
        pairs.any(|(mine, theirs)| *mine == Ending::Lost && !matches!(theirs, Ending::Done(_)))
    };
    let both_refuse = lost(ours, libnbd) || lost(libnbd, ours);
    let pairs = ours.operations.iter().zip(&libnbd.operations);
    let pairs =
        pairs.filter(|(mine, theirs)| !(both_refuse && (**mine == Ending::Lost || **theirs == Ending::Lost)));
    pairs.into_iter().find_map(|(mine, theirs)| match (mine, theirs) {
        (Ending::Done(mine), Ending::Done(theirs)) if mine == theirs => None,
        (Ending::Done(_), Ending::Done(_)) => different("accepts".into(), "accepts, other content".into()),
        (Ending::Done(_), _) => {
            // a malformed chunk that follows an error: the reply has failed for both, libnbd stops there
            let failed = ours.operations.iter().any(|outcome| matches!(outcome, Ending::Failed(_)));
            let mine = if failed { "accepts others, drains a failed reply" } else { "accepts" };
            different(mine.into(), class(theirs, libnbd))
        }
        (_, Ending::Done(_)) => different(class(mine, ours), "accepts".into()),
        _ => None,
    })
}

fn class(outcome: &Ending, report: &Account) -> String {
    match outcome {
        Ending::Done(_) => "accepts".into(),
        Ending::Failed(reason) => format!("fails: {reason}"),
        Ending::Lost => format!("ends: {}", report.died.as_deref().unwrap_or("without a reason")),
    }
}

/// The rows of `differences.md`: who is right, for each difference that is known.
#[derive(Debug)]
pub struct DifferenceTable(HashMap<Difference, String>);

impl DifferenceTable {
    /// Reads the rows whose first two cells are in backquotes.
    pub fn new(text: &str) -> Self {
        let cell = |text: &str| text.trim().strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
        let row = |line: &str| {
            let cells: Vec<&str> = line.strip_prefix('|')?.split('|').collect();
            let (ours, libnbd) = (cell(cells.first()?)?, cell(cells.get(1)?)?);
            Some((Difference { ours, libnbd }, cells.get(2)?.trim().to_owned()))
        };
        Self(text.lines().filter_map(row).collect())
    }

    /// Who is right, if the table knows it.
    pub fn verdict(&self, difference: &Difference) -> Option<&str> {
        self.0.get(difference).map(String::as_str)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peers::outcome::{Accepted, SeenExport};

    fn report(operations: Vec<Ending>, died: Option<&str>) -> Account {
        let export = SeenExport { size: 4096, flags: [true; 4], min_block: 0, contexts: [true; 2] };
        Account { export: Ok(export), operations, died: died.map(str::to_owned) }
    }

    fn list(flags: u32) -> Ending {
        Ending::Done(Accepted { lists: [(0, vec![vec![4096, flags]])].into(), hash: None })
    }

    #[test]
    fn another_flag_or_another_size_is_a_difference() {
        let (ours, mut theirs) = (report(vec![list(0)], None), report(vec![list(0)], None));
        assert_eq!(difference(&ours, &theirs), None);
        theirs.operations[0] = list(3);
        assert_eq!(difference(&ours, &theirs).unwrap().libnbd, "accepts, other content");
        theirs.export.as_mut().unwrap().size = 512;
        assert_eq!(difference(&ours, &theirs).unwrap().libnbd, "accepts, another size");
    }

    #[test]
    fn who_refuses_alone_differs_and_two_refusals_agree() {
        let failed = report(vec![Ending::Failed("ZeroLength".into()), list(0)], None);
        let lost = report(vec![Ending::Lost, Ending::Lost], Some("it is broken"));
        let fine = report(vec![list(0), list(0)], None);
        assert_eq!(difference(&failed, &fine).unwrap().ours, "fails: ZeroLength");
        assert_eq!(difference(&fine, &lost).unwrap().libnbd, "ends: it is broken");
        assert_eq!(difference(&failed, &lost), None);
    }

    #[test]
    fn the_table_is_read() {
        let table = DifferenceTable::new(include_str!("differences.md"));
        let row = Difference { ours: "fails: MissingData".to_owned(), libnbd: "accepts".to_owned() };
        assert_eq!(table.verdict(&row), Some("nbd-client"));
        assert_eq!(table.verdict(&Difference { ours: "accepts".to_owned(), ..row }), None);
    }
}
