// swift-tools-version:6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "Shop",
    platforms: [.macOS(.v15)],
    dependencies: [
        .package(name: "swift-supervision", path: "../..", traits: ["Configuration", "Observer"]),
        .package(url: "https://github.com/apple/swift-configuration", from: "1.4.0"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // Contracts and messages shared by the services, without AMQP.
        .target(
            name: "ShopContract",
            dependencies: [.product(name: "RPCContract", package: "swift-supervision")],
            swiftSettings: settings
        ),
        .target(
            name: "ShopServices",
            dependencies: [
                "ShopContract",
                .product(name: "AMQPPool", package: "swift-supervision"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "QueueWorkers", package: "swift-supervision"),
                .product(name: "RPCCaller", package: "swift-supervision"),
                .product(name: "RPCReceiver", package: "swift-supervision"),
                .product(name: "Supervision", package: "swift-supervision"),
                .product(name: "SupervisionObserver", package: "swift-supervision"),
            ],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "shop",
            dependencies: [
                "ShopServices",
                .product(name: "AMQPPool", package: "swift-supervision"),
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "LocalBroker", package: "swift-supervision"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "QueueWorkers", package: "swift-supervision"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "Supervision", package: "swift-supervision"),
                .product(name: "SupervisionObserver", package: "swift-supervision"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ShopTests",
            dependencies: [
                "ShopContract", "ShopServices",
                .product(name: "AMQPPool", package: "swift-supervision"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "LocalBroker", package: "swift-supervision"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "QueueWorkers", package: "swift-supervision"),
                .product(name: "RPCCaller", package: "swift-supervision"),
                .product(name: "RPCReceiver", package: "swift-supervision"),
                .product(name: "RPCTesting", package: "swift-supervision"),
                .product(name: "Supervision", package: "swift-supervision"),
            ],
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)
