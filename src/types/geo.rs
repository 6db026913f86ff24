//! Places on the earth as scores of a sorted set: geohashes, distances, and the squares that cover a shape.
//!
//! ```text
//! score = 52 bits as a whole number, longitude and latitude by turns, longitude first:
//!         the earth halved 26 times each way, so a square of 0.6 m at the equator
//!
//! longitude  -180 .. 180       latitude  -85.05112878 .. 85.05112878 (of a Mercator map)
//! ```
//!
//! All places in a square of `steps` halvings have scores in one range, so a search is nine ranges: the square around the centre, of
//! about the size of the shape, and its eight neighbours, less those that the shape does not reach. What they hold is then measured
//! one by one, by the haversine formula on a sphere. The order in which squares are searched is Redis's, since it is the order of
//! an unsorted answer.

use crate::base::stop::Stop;
use crate::store::txn::Txn;
use crate::types::sorted_set::{ScoreEnd, SortedSet, Span};
use std::ops::ControlFlow;

/// Mean radius of the earth in meters.
const EARTH_RADIUS_METERS: f64 = 6_372_797.560856;
/// Half of the equator on a Mercator map, in meters.
const MERCATOR_MAX_METERS: f64 = 20_037_726.37;
/// Halvings of a full hash, each way.
const STEPS_MAX: u32 = 26;
const LONGITUDE_MAX: f64 = 180.0;
const LATITUDE_MAX: f64 = 85.05112878;
/// The bits of a hash that are of the latitude.
const LATITUDE_BITS: u64 = 0x5555_5555_5555_5555;

/// A place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Degrees east.
    pub longitude: f64,
    /// Degrees north.
    pub latitude: f64,
}

impl Point {
    /// Whether it can be hashed.
    pub fn is_valid(&self) -> bool {
        self.longitude.abs() <= LONGITUDE_MAX && self.latitude.abs() <= LATITUDE_MAX
    }

    /// Its score.
    pub fn score(&self) -> f64 {
        Square::around(*self, STEPS_MAX).bits as f64
    }

    /// The middle of the square that a score means.
    pub fn of_score(score: f64) -> Point {
        let square = Square { bits: bits_of_score(score), steps: STEPS_MAX };
        let (west, east) = square.longitudes();
        let (south, north) = square.latitudes();
        Point {
            longitude: ((west + east) / 2.0).clamp(-LONGITUDE_MAX, LONGITUDE_MAX),
            latitude: ((south + north) / 2.0).clamp(-LATITUDE_MAX, LATITUDE_MAX),
        }
    }

    /// The geohash that the world uses: latitudes from -90 to 90, base 32. Its last digit would need more bits than there are.
    pub fn geohash(&self) -> [u8; 11] {
        const DIGITS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = hash(*self, STEPS_MAX, 90.0);
        let mut text = [DIGITS[0]; 11];
        for (at, digit) in text.iter_mut().take(10).enumerate() {
            *digit = DIGITS[(bits >> (52 - (at + 1) * 5)) as usize % 32];
        }
        text
    }

    /// The distance to another place in meters.
    pub fn distance_meters(&self, other: &Point) -> f64 {
        let east = ((other.longitude.to_radians() - self.longitude.to_radians()) / 2.0).sin();
        if east == 0.0 {
            return self.distance_north_meters(other);
        }
        let (from, to) = (self.latitude.to_radians(), other.latitude.to_radians());
        let north = ((to - from) / 2.0).sin();
        let a = north * north + from.cos() * to.cos() * east * east;
        2.0 * EARTH_RADIUS_METERS * a.sqrt().asin()
    }

    /// The distance along a meridian in meters.
    fn distance_north_meters(&self, other: &Point) -> f64 {
        EARTH_RADIUS_METERS * (other.latitude.to_radians() - self.latitude.to_radians()).abs()
    }
}

/// The bits of a score. Any score may stand in a sorted set; those that are no hash mean what Redis makes of them on x86-64.
fn bits_of_score(score: f64) -> u64 {
    const BEYOND: f64 = 18_446_744_073_709_551_616.0;
    match score {
        0.0..BEYOND => score as u64,
        BEYOND.. => 0,
        _ => (score as i64).cast_unsigned(),
    }
}

/// Bits 0, 1, 2 .. of a number at the places 0, 2, 4 ..
fn spread(number: u32) -> u64 {
    let mut bits = u64::from(number);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, LATITUDE_BITS),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// The other way round.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & LATITUDE_BITS;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

/// The bits of a place on a map of these latitudes.
fn hash(point: Point, steps: u32, latitude_max: f64) -> u64 {
    let squares = (1u64 << steps) as f64;
    let north = (point.latitude + latitude_max) / (2.0 * latitude_max) * squares;
    let east = (point.longitude + LONGITUDE_MAX) / (2.0 * LONGITUDE_MAX) * squares;
    spread(north as u32) | spread(east as u32) << 1
}

/// A part of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Square {
    bits: u64,
    steps: u32,
}

impl Square {
    fn around(point: Point, steps: u32) -> Square {
        Square { bits: hash(point, steps, LATITUDE_MAX), steps }
    }

    fn side(&self, number: u32, max: f64) -> (f64, f64) {
        let squares = (1u64 << self.steps) as f64;
        let at = |number: f64| -max + number / squares * (2.0 * max);
        (at(f64::from(number)), at(f64::from(number) + 1.0))
    }

    /// Its west and east sides.
    fn longitudes(&self) -> (f64, f64) {
        self.side(gather(self.bits >> 1), LONGITUDE_MAX)
    }

    /// Its south and north sides.
    fn latitudes(&self) -> (f64, f64) {
        self.side(gather(self.bits), LATITUDE_MAX)
    }

    /// The square so many to the east and north. The map has no edges: beyond one it goes on at the other. (A place on the
    /// very edge counts as beyond it and has no square of its own, as in Redis.)
    fn moved(&self, east: i64, north: i64) -> Square {
        let number = |bits: u64, by: i64| match (gather(bits), by) {
            (number, 0) => number,
            (number, by) => ((i64::from(number) + by) as u64 & ((1 << self.steps) - 1)) as u32,
        };
        let bits = spread(number(self.bits, north)) | spread(number(self.bits >> 1, east)) << 1;
        Square { bits, ..*self }
    }

    /// The scores of all places in it.
    fn scores(&self) -> Span<'static> {
        let shift = 2 * (STEPS_MAX - self.steps);
        let end = |bits: u64, exclusive| ScoreEnd { score: (bits << shift) as f64, exclusive };
        Span::Scores(end(self.bits, false), end(self.bits + 1, true))
    }
}

/// What a search looks for, in meters around a centre.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// At most so far away.
    Circle {
        /// How far.
        radius: f64,
    },
    /// At most half of these away.
    Box {
        /// East to west.
        width: f64,
        /// North to south.
        height: f64,
    },
}

impl Shape {
    /// The distance of a place from the centre, if it is inside.
    fn measure(&self, centre: &Point, point: &Point) -> Option<f64> {
        match *self {
            Shape::Circle { radius } => {
                let distance = centre.distance_meters(point);
                // Not the other way round: a distance that is no number is inside, as in Redis.
                if distance > radius { None } else { Some(distance) }
            }
            Shape::Box { width, height } => {
                if point.distance_north_meters(centre) > height / 2.0 {
                    return None;
                }
                let middle = Point { longitude: centre.longitude, latitude: point.latitude };
                if point.distance_meters(&middle) > width / 2.0 {
                    return None;
                }
                Some(centre.distance_meters(point))
            }
        }
    }

    /// Half of its width and height, and the distance from the centre to its farthest point.
    fn extents(&self) -> (f64, f64, f64) {
        match *self {
            Shape::Circle { radius } => (radius, radius, radius),
            Shape::Box { width, height } => {
                let (width, height) = (width / 2.0, height / 2.0);
                (width, height, (width * width + height * height).sqrt())
            }
        }
    }
}

/// Halvings of the map after which nine squares cover so many meters around a centre, mostly.
fn steps_for(mut meters: f64, latitude: f64) -> u32 {
    if meters == 0.0 {
        return STEPS_MAX;
    }
    let mut steps = 1;
    while meters < MERCATOR_MAX_METERS {
        meters *= 2.0;
        steps += 1;
    }
    // Squares of at least the radius; and near the poles they are narrow.
    steps -= 2;
    if latitude.abs() > 66.0 {
        steps -= 1;
    }
    if latitude.abs() > 80.0 {
        steps -= 1;
    }
    steps.clamp(1, STEPS_MAX as i32) as u32
}

/// In which order the squares around one are searched: east, north.
const NEIGHBOURS: [(i64, i64); 9] =
    [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];

/// The squares that a shape reaches.
fn squares(centre: &Point, shape: &Shape) -> Vec<Square> {
    let (half_width, half_height, farthest) = shape.extents();
    let north_delta = (half_height / EARTH_RADIUS_METERS).to_degrees();
    // The side that is nearer to a pole spans more degrees.
    let wide =
        if centre.latitude < 0.0 { centre.latitude - north_delta } else { centre.latitude + north_delta };
    let east_delta = (half_width / EARTH_RADIUS_METERS / wide.to_radians().cos()).to_degrees();
    let (west, east) = (centre.longitude - east_delta, centre.longitude + east_delta);
    let (south, north) = (centre.latitude - north_delta, centre.latitude + north_delta);

    let mut steps = steps_for(farthest, centre.latitude);
    let mut square = Square::around(*centre, steps);
    let too_small = square.moved(0, 1).latitudes().1 < north
        || square.moved(0, -1).latitudes().0 > south
        || square.moved(1, 0).longitudes().1 < east
        || square.moved(-1, 0).longitudes().0 > west;
    if steps > 1 && too_small {
        steps -= 1;
        square = Square::around(*centre, steps);
    }
    let (own_west, own_east) = square.longitudes();
    let (own_south, own_north) = square.latitudes();
    let reaches = |(to_east, to_north): (i64, i64)| {
        steps < 2
            || !(to_north < 0 && own_south < south
                || to_north > 0 && own_north > north
                || to_east < 0 && own_west < west
                || to_east > 0 && own_east > east)
    };
    let mut squares: Vec<Square> = Vec::with_capacity(NEIGHBOURS.len());
    for (index, (to_east, to_north)) in NEIGHBOURS.into_iter().enumerate() {
        if index > 0 && !reaches((to_east, to_north)) {
            continue;
        }
        let next = square.moved(to_east, to_north);
        // On a map of few squares neighbours are the same.
        if !squares.contains(&next) {
            squares.push(next);
        }
    }
    squares
}

/// A place that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its member.
    pub member: Vec<u8>,
    /// Its score.
    pub score: f64,
    /// Where it is.
    pub point: Point,
    /// How far from the centre, in meters.
    pub meters: f64,
}

/// The places of a set within a shape, at most `limit`, in no order of distance.
pub fn search(
    txn: &mut Txn,
    set: &SortedSet,
    centre: Point,
    shape: Shape,
    limit: u64,
) -> Result<Vec<Found>, Stop> {
    let mut found: Vec<Found> = Vec::new();
    for square in squares(&centre, &shape) {
        if found.len() as u64 >= limit {
            break;
        }
        set.walk(txn, &square.scores(), false, 0, |member, score| {
            let point = Point::of_score(score);
            if let Some(meters) = shape.measure(&centre, &point) {
                found.push(Found { member: member.to_vec(), score, point, meters });
            }
            if found.len() as u64 >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PALERMO: Point = Point { longitude: 13.361389, latitude: 38.115556 };
    const CATANIA: Point = Point { longitude: 15.087269, latitude: 37.502669 };

    #[test]
    fn known_places() {
        assert_eq!(PALERMO.score(), 3479099956230698.0);
        assert_eq!(CATANIA.score(), 3479447370796909.0);
        assert_eq!(&Point::of_score(PALERMO.score()).geohash(), b"sqc8b49rny0");
        assert_eq!(&Point::of_score(CATANIA.score()).geohash(), b"sqdtr74hyu0");
        let distance = Point::of_score(PALERMO.score()).distance_meters(&Point::of_score(CATANIA.score()));
        assert_eq!(format!("{distance:.4}"), "166274.1516");
    }

    proptest! {
        #[test]
        fn a_score_is_near_its_place(longitude in -180.0..180.0f64, latitude in -85.0..85.0f64) {
            let point = Point { longitude, latitude };
            let back = Point::of_score(point.score());
            prop_assert!((back.longitude - longitude).abs() < 1e-5 && (back.latitude - latitude).abs() < 1e-5);
            prop_assert!(Square::around(point, 9).bits == point.score() as u64 >> (2 * 17));
        }

        #[test]
        fn what_is_inside_lies_in_a_square(
            longitude in -180.0..180.0f64, latitude in -66.0..66.0f64, radius in 1.0..3_000_000.0f64,
            towards in 0.0..std::f64::consts::TAU, part in 0.0..1.0f64, as_box: bool,
        ) {
            let centre = Point { longitude, latitude };
            let shape = match as_box {
                false => Shape::Circle { radius },
                true => Shape::Box { width: radius, height: radius / 2.0 },
            };
            // Somewhere near, in degrees; the map's edges are left out, since a search ends there in Redis too.
            let degrees = (radius * part / EARTH_RADIUS_METERS).to_degrees();
            let point = Point {
                longitude: longitude + degrees * towards.cos() / latitude.to_radians().cos(),
                latitude: latitude + degrees * towards.sin(),
            };
            prop_assume!(point.is_valid() && point.latitude.abs() < 75.0);
            let point = Point::of_score(point.score());
            if shape.measure(&centre, &point).is_some() {
                let inside = squares(&centre, &shape)
                    .iter()
                    .any(|square| Square::around(point, square.steps) == *square);
                prop_assert!(inside, "{centre:?} {shape:?} {point:?}");
            }
        }

        #[test]
        fn any_score_is_safe(score: f64, radius: f64, longitude in -180.0..=180.0f64, latitude in -85.0..=85.0f64) {
            let _ = Point::of_score(score);
            prop_assume!(radius >= 0.0);
            let centre = Point { longitude, latitude };
            for shape in [Shape::Circle { radius }, Shape::Box { width: radius, height: 1.0 }] {
                prop_assert!(squares(&centre, &shape).len() <= 9);
            }
        }

        #[test]
        fn bits_by_turns(number: u32) {
            prop_assert_eq!(gather(spread(number)), number);
        }
    }
}
