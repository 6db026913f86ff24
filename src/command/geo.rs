//! Commands on places on the earth: words in, measuring by `types/geo.rs`, replies out. The places are sorted sets.

use crate::base::args::is_keyword;
use crate::base::double::parse_f64;
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::sorted_sets::store_result;
use crate::command::spec::Context;
use crate::store::events::EventClass;
use crate::types::geo::{self, Found, Point, Shape};
use crate::types::sorted_set::{Element, SortedSet};
use crate::types::sorted_sets::{self, AddOptions};
use haypile_resp::{Protocol, ReplyWriter};

// Words.

/// Longitude and latitude from word `at` on.
fn parse_point(ctx: &Context<'_>, at: usize) -> Result<Point, ReplyError> {
    let degrees = |at| parse_f64(ctx.args.get(at)).ok_or(ReplyError::NOT_A_FLOAT);
    let point = Point { longitude: degrees(at)?, latitude: degrees(at + 1)? };
    if !point.is_valid() {
        let Point { longitude, latitude } = point;
        let error = format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}");
        return Err(ReplyError::new(error));
    }
    Ok(point)
}

/// Meters in a unit.
fn parse_unit(word: &[u8]) -> Result<f64, ReplyError> {
    let units = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    let found = units.iter().find(|(name, _)| is_keyword(word, name));
    let error = ReplyError::fixed("ERR unsupported unit provided. please use M, KM, FT, MI");
    found.map(|(_, meters)| *meters).ok_or(error)
}

/// A circle and its unit from word `at` on.
fn parse_circle(ctx: &Context<'_>, at: usize) -> Result<(Shape, f64), ReplyError> {
    let radius = parse_f64(ctx.args.get(at)).ok_or(ReplyError::fixed("ERR need numeric radius"))?;
    if radius < 0.0 {
        return Err(ReplyError::fixed("ERR radius cannot be negative"));
    }
    let unit = parse_unit(ctx.args.get(at + 1))?;
    Ok((Shape::Circle { radius: radius * unit }, unit))
}

/// A box and its unit from word `at` on.
fn parse_box(ctx: &Context<'_>, at: usize) -> Result<(Shape, f64), ReplyError> {
    let width = parse_f64(ctx.args.get(at)).ok_or(ReplyError::fixed("ERR need numeric width"))?;
    let height = parse_f64(ctx.args.get(at + 1)).ok_or(ReplyError::fixed("ERR need numeric height"))?;
    if width < 0.0 || height < 0.0 {
        return Err(ReplyError::fixed("ERR height or width cannot be negative"));
    }
    let unit = parse_unit(ctx.args.get(at + 2))?;
    Ok((Shape::Box { width: width * unit, height: height * unit }, unit))
}

// Replies.

/// A distance: four digits behind the point are enough.
fn reply_distance(reply: &mut ReplyWriter, distance: f64) {
    reply.bulk(four_digits(distance).as_bytes());
}

/// As Redis from 7.0 on rounds: what is to be cut off is looked at when the number has been scaled already, so that what lies within a
/// double's precision of a tie goes to the even digit. No distance on this globe is near what an `i64` has room for.
fn four_digits(distance: f64) -> String {
    let scaled = (distance * 10_000.0).round_ties_even() as i64;
    format!("{}.{:04}", scaled / 10_000, scaled % 10_000)
}

/// A coordinate: 17 digits behind the point, without zeros at the end.
fn reply_degrees(reply: &mut ReplyWriter, degrees: f64) {
    let text = format!("{degrees:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let text = if text == "-0" { "0" } else { text };
    match reply.protocol() {
        Protocol::Resp2 => reply.bulk(text.as_bytes()),
        Protocol::Resp3 => reply.raw(format!(",{text}\r\n").as_bytes()),
    }
}

fn reply_point(reply: &mut ReplyWriter, point: &Point) {
    reply.array(2);
    reply_degrees(reply, point.longitude);
    reply_degrees(reply, point.latitude);
}

// Commands.

/// `GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ..]`
pub fn geoadd(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (mut options, mut changed) = (AddOptions::default(), false);
    let mut first = 2;
    while first < ctx.args.len() {
        let word = ctx.args.get(first);
        let flag = match word {
            _ if is_keyword(word, "NX") => &mut options.only_new,
            _ if is_keyword(word, "XX") => &mut options.only_present,
            _ if is_keyword(word, "CH") => &mut changed,
            _ => break,
        };
        *flag = true;
        first += 1;
    }
    let words = ctx.args.len() - first;
    if !words.is_multiple_of(3) || words == 0 || options.only_new && options.only_present {
        return Err(ReplyError::SYNTAX.into());
    }
    let place = |at: usize| Ok((parse_point(ctx, at)?.score(), ctx.args.get(at + 2)));
    let elements = (first..ctx.args.len()).step_by(3).map(place).collect::<Result<Vec<_>, ReplyError>>()?;
    let at = ctx.txn.at(ctx.args.get(1))?;
    let added = sorted_sets::add(ctx.txn, at, options, &elements)?;
    if added.added + added.updated > 0 {
        ctx.txn.event(EventClass::SORTED_SET, "zadd", at);
    }
    let count = if changed { added.added + added.updated } else { added.added };
    ctx.reply.integer(count as i64);
    Ok(())
}

/// Answers an array with what `write` makes of each member's place.
fn reply_each(ctx: &mut Context<'_>, write: fn(&mut ReplyWriter, Option<Point>)) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let set = SortedSet::open(ctx.txn, at)?;
    ctx.reply.array(ctx.args.len() - 2);
    for member in ctx.args.from(2) {
        let score = match &set {
            Some(set) => set.score(ctx.txn, member)?,
            None => None,
        };
        write(ctx.reply, score.map(Point::of_score));
    }
    Ok(())
}

/// `GEOHASH key [member ..]`
pub fn geohash(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_each(ctx, |reply, point| match point {
        Some(point) => reply.bulk(&point.geohash()),
        None => reply.null(),
    })
}

/// `GEOPOS key [member ..]`
pub fn geopos(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_each(ctx, |reply, point| match point {
        Some(point) => reply_point(reply, &point),
        None => reply.null_array(),
    })
}

/// `GEODIST key member1 member2 [M | KM | FT | MI]`
pub fn geodist(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let unit = match ctx.args.len() {
        4 => 1.0,
        5 => parse_unit(ctx.args.get(4))?,
        _ => return Err(ReplyError::SYNTAX.into()),
    };
    let at = ctx.txn.at(ctx.args.get(1))?;
    let scores = match SortedSet::open(ctx.txn, at)? {
        None => None,
        Some(set) => {
            let first = set.score(ctx.txn, ctx.args.get(2))?;
            first.zip(set.score(ctx.txn, ctx.args.get(3))?)
        }
    };
    match scores {
        None => ctx.reply.null(),
        Some((a, b)) => {
            let meters = Point::of_score(a).distance_meters(&Point::of_score(b));
            reply_distance(ctx.reply, meters / unit);
        }
    }
    Ok(())
}

/// Which of the searching commands it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// GEORADIUS: the centre and radius come first.
    Radius,
    /// GEORADIUSBYMEMBER: the member and radius come first.
    RadiusByMember,
    /// GEOSEARCH: everything is said by keywords.
    Search,
    /// GEOSEARCHSTORE: the same, with a destination in front.
    SearchStore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

/// A search as it was asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Search<'a> {
    centre: Option<Point>,
    /// The centre is a member of a set that is not there.
    centre_is_missing: bool,
    shape: Option<Shape>,
    /// Meters in the unit of the shape.
    unit: f64,
    order: Option<Order>,
    /// Most places; 0 for all.
    count: u64,
    /// Any places will do, not the nearest.
    any: bool,
    with_distance: bool,
    with_hash: bool,
    with_point: bool,
    /// Where the result goes.
    destination: Option<&'a [u8]>,
    /// Stored scores are distances.
    store_distances: bool,
}

/// `GEORADIUS key longitude latitude radius unit [..]`
pub fn georadius(ctx: &mut Context<'_>) -> Result<(), Stop> {
    search(ctx, Form::Radius, true)
}

/// GEORADIUS_RO: GEORADIUS that does not store.
pub fn georadius_ro(ctx: &mut Context<'_>) -> Result<(), Stop> {
    search(ctx, Form::Radius, false)
}

/// `GEORADIUSBYMEMBER key member radius unit [..]`
pub fn georadiusbymember(ctx: &mut Context<'_>) -> Result<(), Stop> {
    search(ctx, Form::RadiusByMember, true)
}

/// GEORADIUSBYMEMBER_RO: GEORADIUSBYMEMBER that does not store.
pub fn georadiusbymember_ro(ctx: &mut Context<'_>) -> Result<(), Stop> {
    search(ctx, Form::RadiusByMember, false)
}

/// `GEOSEARCH key FROMMEMBER member | FROMLONLAT lon lat BYRADIUS r unit | BYBOX w h unit [ASC | DESC] [COUNT n [ANY]] [WITH..]`
pub fn geosearch(ctx: &mut Context<'_>) -> Result<(), Stop> {
    search(ctx, Form::Search, false)
}

/// GEOSEARCHSTORE destination source, with the words of GEOSEARCH, and STOREDIST.
pub fn geosearchstore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    search(ctx, Form::SearchStore, false)
}

/// The place of a member that is to be a centre.
fn member_point(ctx: &mut Context<'_>, set: &SortedSet, at: usize) -> Result<Point, Stop> {
    let score = set.score(ctx.txn, ctx.args.get(at))?;
    let error = ReplyError::fixed("ERR could not decode requested zset member");
    Ok(score.map(Point::of_score).ok_or(error)?)
}

/// Runs a search. `may_store`: STORE and STOREDIST are among the words.
fn search(ctx: &mut Context<'_>, form: Form, may_store: bool) -> Result<(), Stop> {
    let source = if form == Form::SearchStore { 2 } else { 1 };
    let at = ctx.txn.at(ctx.args.get(source))?;
    let set = SortedSet::open(ctx.txn, at)?;
    let query = parse_search(ctx, form, may_store, set.as_ref())?;
    let found = match (&set, query.centre, query.shape) {
        (Some(set), Some(centre), Some(shape)) => {
            let limit = if query.any { query.count } else { u64::MAX };
            geo::search(ctx.txn, set, centre, shape, limit)?
        }
        _ => Vec::new(),
    };
    let found = query.sorted(found);
    let Some(destination) = query.destination else {
        query.reply(ctx.reply, &found);
        return Ok(());
    };
    let mut elements: Vec<Element> = found
        .into_iter()
        .map(|found| Element {
            score: if query.store_distances { found.meters / query.unit } else { found.score },
            member: found.member,
        })
        .collect();
    elements.sort_by(Element::order);
    let to = ctx.txn.at(destination)?;
    let event = if form == Form::SearchStore { "geosearchstore" } else { "georadiusstore" };
    store_result(ctx, event, to, &elements)
}

fn parse_search<'a>(
    ctx: &mut Context<'a>,
    form: Form,
    may_store: bool,
    set: Option<&SortedSet>,
) -> Result<Search<'a>, Stop> {
    let mut query = Search { unit: 1.0, ..Search::default() };
    let by_keywords = matches!(form, Form::Search | Form::SearchStore);
    let mut at = match form {
        Form::Radius => {
            query.centre = Some(parse_point(ctx, 2)?);
            let (shape, unit) = parse_circle(ctx, 4)?;
            (query.shape, query.unit) = (Some(shape), unit);
            6
        }
        Form::RadiusByMember => {
            // Without a set the member and radius are not looked at.
            if let Some(set) = set {
                query.centre = Some(member_point(ctx, set, 2)?);
                let (shape, unit) = parse_circle(ctx, 3)?;
                (query.shape, query.unit) = (Some(shape), unit);
            }
            5
        }
        Form::Search => 2,
        Form::SearchStore => {
            query.destination = Some(ctx.args.get(1));
            3
        }
    };
    let (mut from_member, mut from_point) = (false, false);
    while at < ctx.args.len() {
        let word = ctx.args.get(at);
        let left = ctx.args.len() - at - 1;
        let is = |keyword: &str| is_keyword(word, keyword);
        let mut taken = 1;
        if is("WITHDIST") {
            query.with_distance = true;
        } else if is("WITHHASH") {
            query.with_hash = true;
        } else if is("WITHCOORD") {
            query.with_point = true;
        } else if is("ANY") {
            query.any = true;
        } else if is("ASC") {
            query.order = Some(Order::Ascending);
        } else if is("DESC") {
            query.order = Some(Order::Descending);
        } else if is("COUNT") && left >= 1 {
            let count = parse_i64(ctx.args.get(at + 1)).ok_or(ReplyError::NOT_AN_INTEGER)?;
            let count = u64::try_from(count).ok().filter(|count| *count > 0);
            query.count = count.ok_or(ReplyError::fixed("ERR COUNT must be > 0"))?;
            taken = 2;
        } else if may_store && left >= 1 && (is("STORE") || is("STOREDIST")) {
            query.destination = Some(ctx.args.get(at + 1));
            query.store_distances = is("STOREDIST");
            taken = 2;
        } else if form == Form::SearchStore && is("STOREDIST") {
            query.store_distances = true;
        } else if by_keywords && is("FROMMEMBER") && left >= 1 && !from_point {
            match set {
                Some(set) => query.centre = Some(member_point(ctx, set, at + 1)?),
                None => query.centre_is_missing = true,
            }
            from_member = true;
            taken = 2;
        } else if by_keywords && is("FROMLONLAT") && left >= 2 && !from_member {
            query.centre = Some(parse_point(ctx, at + 1)?);
            from_point = true;
            taken = 3;
        } else if by_keywords
            && is("BYRADIUS")
            && left >= 2
            && !matches!(query.shape, Some(Shape::Box { .. }))
        {
            let (shape, unit) = parse_circle(ctx, at + 1)?;
            (query.shape, query.unit) = (Some(shape), unit);
            taken = 3;
        } else if by_keywords
            && is("BYBOX")
            && left >= 3
            && !matches!(query.shape, Some(Shape::Circle { .. }))
        {
            let (shape, unit) = parse_box(ctx, at + 1)?;
            (query.shape, query.unit) = (Some(shape), unit);
            taken = 4;
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
        at += taken;
    }
    query.check(ctx, form)?;
    Ok(query)
}

impl Search<'_> {
    /// What goes together, once all words are known.
    fn check(&self, ctx: &Context<'_>, form: Form) -> Result<(), ReplyError> {
        let by_keywords = matches!(form, Form::Search | Form::SearchStore);
        let name = || ReplyError::echo(ctx.args.name());
        if self.destination.is_some() && (self.with_distance || self.with_hash || self.with_point) {
            let what = if form == Form::SearchStore { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(ReplyError::new(format!(
                "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        if by_keywords && self.centre.is_none() && !self.centre_is_missing {
            return Err(ReplyError::new(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}",
                name()
            )));
        }
        if by_keywords && self.shape.is_none() {
            return Err(ReplyError::new(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {}",
                name()
            )));
        }
        if self.any && self.count == 0 {
            return Err(ReplyError::fixed("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    /// The places in the order asked for, and no more than asked for. A count means the nearest ones, unless any will do.
    fn sorted(&self, mut found: Vec<Found>) -> Vec<Found> {
        let nearest = (self.count != 0 && !self.any).then_some(Order::Ascending);
        match self.order.or(nearest) {
            Some(Order::Ascending) => found.sort_by(|a, b| a.meters.total_cmp(&b.meters)),
            Some(Order::Descending) => found.sort_by(|a, b| b.meters.total_cmp(&a.meters)),
            None => {}
        }
        if self.count != 0 {
            found.truncate(usize::try_from(self.count).unwrap_or(usize::MAX));
        }
        found
    }

    fn reply(&self, reply: &mut ReplyWriter, found: &[Found]) {
        let details =
            [self.with_distance, self.with_hash, self.with_point].into_iter().filter(|with| *with).count();
        reply.array(found.len());
        for found in found {
            if details > 0 {
                reply.array(details + 1);
            }
            reply.bulk(&found.member);
            if self.with_distance {
                reply_distance(reply, found.meters / self.unit);
            }
            if self.with_hash {
                reply.integer(found.score as i64);
            }
            if self.with_point {
                reply_point(reply, &found.point);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_rounded_once_they_are_scaled() {
        for (distance, text) in [
            (0.0, "0.0000"),
            (0.5, "0.5000"),
            (20_003_931.458_6, "20003931.4586"),
            (14_246_745.314_35, "14246745.3144"),
            // Ties go to the even digit.
            (0.000_25, "0.0002"),
            (0.000_35, "0.0004"),
            (0.000_05, "0.0000"),
            (99.999_99, "100.0000"),
        ] {
            assert_eq!(four_digits(distance), text);
        }
    }
}
