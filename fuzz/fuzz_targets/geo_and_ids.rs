//! Geo scores and stream ids: any score is a place that has a hash and a distance, any valid place comes back from its score as nearly
//! itself; any text is a stream id or an error, and an id's text is that id.

#![no_main]

use haypile::command::stream_words::{parse_end, parse_id, parse_start, parse_strict_id};
use haypile::encoding::stream::StreamId;
use haypile::types::geo::Point;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for parse in [parse_start, parse_end] {
        let _ = parse(data);
    }
    let _ = parse_strict_id(data, 0);
    if let Ok(id) = parse_id(data, 7) {
        let text = id.to_string();
        assert!(parse_id(text.as_bytes(), 0).is_ok_and(|again| again == id));
        assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
    }
    let number = |at: usize| data.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(f64::from_le_bytes);
    let (Some(x), Some(y)) = (number(0), number(8)) else { return };
    let anywhere = Point::of_score(x);
    let _ = (anywhere.geohash(), anywhere.distance_meters(&Point::of_score(y)));
    let point = Point { longitude: x, latitude: y };
    if point.is_valid() {
        let again = Point::of_score(point.score());
        assert!(again.is_valid());
        assert!((again.longitude - x).abs() < 0.001 && (again.latitude - y).abs() < 0.001);
        assert_eq!(Point::of_score(again.score()).score(), again.score());
    }
});
