//! What an access may have been for, as far as the log, the records and the agreements say.

use super::access::{Access, Came, Case, Kind, Log, Place, Surroundings, by};
use super::{Explanation, Parameters};
use jiff::civil::Date;
use protocol::time::DAY_SECONDS;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// Everything the rules may look at.
pub(super) struct Grounds<'a> {
    pub(super) log: &'a Log,
    pub(super) parameters: &'a Parameters,
    pub(super) surroundings: &'a Surroundings<'a>,
    /// The days that are judged, both included.
    pub(super) days: (Date, Date),
    /// Residents a case reference was given for.
    residents: HashMap<Rc<str>, u64>,
    /// When a case reference was given for a resident, and by whom.
    uses: HashMap<(Rc<str>, Rc<str>), Vec<Use>>,
    /// Days on which a question was asked about a resident, and by whom.
    asked: HashMap<(Rc<str>, Rc<str>), Askings>,
    /// When a question about a resident was answered to a user.
    answered: HashMap<(Rc<str>, Rc<str>), Vec<Answer>>,
    /// When each resident's consents were given.
    consents: HashMap<Rc<str>, Vec<Place>>,
}

/// Days with the users who asked.
type Askings = BTreeSet<(Date, Rc<str>)>;

/// One use of a case reference.
struct Use {
    at: Place,
    user: Rc<str>,
}

/// One answer to a user.
struct Answer {
    file: Option<Rc<str>>,
    time: i64,
}

/// Whether an explanation holds for an access.
type Holds<'a> = fn(&Grounds<'a>, &Access) -> bool;

/// How long a slip may take to be put right.
const RETRY_SECONDS: i64 = DAY_SECONDS;

impl<'a> Grounds<'a> {
    pub(super) fn new(
        log: &'a Log,
        parameters: &'a Parameters,
        surroundings: &'a Surroundings<'a>,
        days: (Date, Date),
    ) -> Self {
        let mut grounds = Grounds {
            log,
            parameters,
            surroundings,
            days,
            residents: HashMap::new(),
            uses: HashMap::new(),
            asked: HashMap::new(),
            answered: HashMap::new(),
            consents: HashMap::new(),
        };
        let questions = || log.accesses.iter().filter(|access| access.is_question());
        let of_case = by(questions(), |access| access.case.clone().zip(access.file.clone()));
        for ((case, file), accesses) in of_case {
            *grounds.residents.entry(case.clone()).or_default() += 1;
            let uses = accesses.iter().map(|access| Use { at: access.place(), user: access.user.clone() }).collect();
            grounds.uses.insert((case, file), uses);
        }
        for access in questions() {
            if let Some(file) = &access.file {
                let same = (file.clone(), access.question.clone());
                grounds.asked.entry(same).or_default().insert((access.day, access.user.clone()));
            }
            if access.answered() {
                let asked = (access.user.clone(), access.question.clone());
                grounds
                    .answered
                    .entry(asked)
                    .or_default()
                    .push(Answer { file: access.file.clone(), time: access.time });
            }
        }
        for consent in log.consents.values() {
            if let (Some(file), Some(given)) = (&consent.file, consent.given) {
                grounds.consents.entry(file.clone()).or_default().push(given);
            }
        }
        grounds
    }

    /// Whether an access lies in the days that are judged.
    pub(super) fn judged(&self, access: &Access) -> bool {
        (self.days.0..=self.days.1).contains(&access.day)
    }

    /// Every explanation an access has, the strongest first.
    pub(super) fn explain(&self, access: &Access) -> Vec<Explanation> {
        let all: [(Explanation, Holds<'a>); 8] = [
            (Explanation::Emergency, |_, access| access.emergency.is_some()),
            (Explanation::Consent, Self::consented),
            (Explanation::Approval, Self::approved),
            (Explanation::Case, Self::of_a_case),
            (Explanation::Pattern, Self::usual),
            (Explanation::Retried, Self::put_right),
            (Explanation::Justified, Self::justified),
            (Explanation::Renewed, Self::renewed),
        ];
        all.into_iter().filter(|(_, holds)| holds(self, access)).map(|(explanation, _)| explanation).collect()
    }

    /// A consent was in force: the log has it for this resident, or the holder, who verified it, answered.
    fn consented(&self, access: &Access) -> bool {
        let Some(id) = &access.consent else { return false };
        let known = self.log.consents.get(id);
        let ended = known.and_then(|consent| consent.withdrawn).is_some_and(|at| at <= access.place());
        let given = known.is_some_and(|consent| {
            consent.file == access.file && consent.given.is_some_and(|given| given <= access.place())
        });
        !ended && (given || access.answered())
    }

    fn approved(&self, access: &Access) -> bool {
        access.kind == Kind::Peer
            && self.log.approvals.get(&access.approved_key).is_some_and(|at| *at <= access.place())
    }

    /// The reference is the resident's own number here, and not ended; or somebody else knew it before as this resident's,
    /// or the officer found an earlier use explained. What a user said before proves nothing for the same user, and a
    /// reference that stands for half the town nothing for anybody.
    fn of_a_case(&self, access: &Access) -> bool {
        let (Some(case), Some(file)) = (&access.case, &access.file) else { return false };
        match self.on_file(access) {
            Some(Case::Open) => return true,
            Some(Case::Ended(last)) => return access.day <= last,
            None => {}
        }
        let few = self.residents.get(case).is_some_and(|residents| *residents <= self.parameters.case_residents);
        let uses = self.uses.get(&(case.clone(), file.clone()));
        few && uses
            .into_iter()
            .flatten()
            .filter(|other| other.at < access.place())
            .any(|other| other.user != access.user || (self.surroundings.explained)(other.at.1))
    }

    /// What our own records say of the case reference of an own question.
    pub(super) fn on_file(&self, access: &Access) -> Option<Case> {
        let (Kind::Own, Some(case), Some(file)) = (access.kind, &access.case, &access.file) else { return None };
        (self.surroundings.case)(file, case)
    }

    /// An agreement covers the question, and others asked it about this resident on earlier days.
    fn usual(&self, access: &Access) -> bool {
        let Some(file) = access.file.as_ref().filter(|_| access.agreed) else { return false };
        let days = self.asked.get(&(file.clone(), access.question.clone()));
        let others = |(day, user): &&(Date, Rc<str>)| *day < access.day && *user != access.user;
        let before: BTreeSet<Date> = days.into_iter().flatten().filter(others).map(|(day, _)| *day).collect();
        before.len() as u64 >= self.parameters.pattern_days
    }

    fn put_right(&self, access: &Access) -> bool {
        let answers = self.answered.get(&(access.user.clone(), access.question.clone()));
        access.came == Came::Refused
            && answers.into_iter().flatten().any(|answer| {
                answer.file == access.file && (access.time..=access.time + RETRY_SECONDS).contains(&answer.time)
            })
    }

    fn justified(&self, access: &Access) -> bool {
        access.emergency.as_ref().is_some_and(|id| self.log.justified.contains(id))
    }

    /// The resident gave another consent after withdrawing the one cited.
    fn renewed(&self, access: &Access) -> bool {
        let withdrawn = access.consent.as_ref().and_then(|id| self.log.consents.get(id)?.withdrawn);
        let (Some(withdrawn), Some(file)) = (withdrawn, &access.file) else { return false };
        let given = self.consents.get(file);
        given.into_iter().flatten().any(|given| (withdrawn..=access.place()).contains(given))
    }
}
