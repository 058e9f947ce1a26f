//! The whole API on one page: every area's endpoints, put on HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, any, on};

use crate::app::App;
use crate::operation::Endpoint;
use crate::{pipeline, routes};

/// Every operation.
pub fn endpoints() -> Vec<Endpoint> {
    let areas = [
        routes::system::endpoints(),
        routes::auth::endpoints(),
        routes::account::endpoints(),
        routes::keys::endpoints(),
        routes::profiles::endpoints(),
        routes::users::endpoints(),
        routes::devices::endpoints(),
        routes::movies::endpoints(),
        routes::playback::endpoints(),
        routes::drm::endpoints(),
        routes::plans::endpoints(),
        routes::subscriptions::endpoints(),
        routes::billing::endpoints(),
        routes::webhooks::endpoints(),
        routes::uploads::endpoints(),
        routes::media::endpoints(),
        routes::shows::endpoints(),
    ];
    areas.into_iter().flatten().collect()
}

/// The API as a service.
pub fn router(app: &Arc<App>) -> Router {
    let mut paths: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &app.endpoints {
        paths.entry(&endpoint.operation.path).or_default().push(endpoint);
    }
    let mut router = Router::new();
    for (path, endpoints) in paths {
        let mut methods = MethodRouter::new();
        let mut allowed: Vec<Method> = endpoints
            .iter()
            .map(|endpoint| endpoint.operation.method.clone())
            .collect();
        if allowed.contains(&Method::GET) && !allowed.contains(&Method::HEAD) {
            allowed.push(Method::HEAD);
        }
        let allowed: Arc<[Method]> = allowed.into();
        for endpoint in endpoints {
            let Ok(filter) = MethodFilter::try_from(endpoint.operation.method.clone()) else {
                continue;
            };
            let (app, endpoint) = (Arc::clone(app), endpoint.clone());
            let allowed = Arc::clone(&allowed);
            let handler = move |request: Request| {
                let (app, endpoint, allowed) = (Arc::clone(&app), endpoint.clone(), Arc::clone(&allowed));
                async move {
                    match pipeline::is_preflight(&request) {
                        true => pipeline::refuse(app, request, &allowed).await,
                        false => pipeline::run(app, endpoint, request).await,
                    }
                }
            };
            methods = methods.merge(on(filter, handler));
        }
        let other = Arc::clone(app);
        let refuse = move |request: Request| {
            let (app, allowed) = (Arc::clone(&other), Arc::clone(&allowed));
            async move { pipeline::refuse(app, request, &allowed).await }
        };
        router = router.route(path, methods.fallback(refuse));
    }
    let app = Arc::clone(app);
    router.fallback_service(any(move |request: Request| {
        let app = Arc::clone(&app);
        async move { pipeline::refuse(app, request, &[]).await }
    }))
}
