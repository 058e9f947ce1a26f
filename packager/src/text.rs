//! Timed text: WebVTT, SRT and TTML in; WebVTT segments, `wvtt` and `stpp` out.
