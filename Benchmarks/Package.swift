// swift-tools-version:6.2
import PackageDescription

// A package of its own: what measures the library is nothing for its users. Built and run by scripts/bench.
let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "Benchmarks",
    platforms: [.macOS(.v15)],
    dependencies: [
        .package(name: "swift-supervision", path: "..", traits: ["Observer", "Protobuf"]),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        .target(name: "BenchmarkContracts", swiftSettings: settings),
        .target(
            name: "BenchmarkSupport",
            dependencies: [
                .product(name: "Histogram", package: "hdrhistogram-swift")
            ],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "rpc-bench",
            dependencies: [
                "BenchmarkContracts",
                "BenchmarkSupport",
                .product(name: "AMQPPool", package: "swift-supervision"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "LocalBroker", package: "swift-supervision"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "QueueWorkers", package: "swift-supervision"),
                .product(name: "RPCActors", package: "swift-supervision"),
                .product(name: "RPCCaller", package: "swift-supervision"),
                .product(name: "RPCContract", package: "swift-supervision"),
                .product(name: "RPCReceiver", package: "swift-supervision"),
                .product(name: "Supervision", package: "swift-supervision"),
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ],
            exclude: ["Payloads/order.proto"],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "observer-bench",
            dependencies: [
                "BenchmarkSupport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "RPCCaller", package: "swift-supervision"),
                .product(name: "RPCReceiver", package: "swift-supervision"),
                .product(name: "RPCTesting", package: "swift-supervision"),
                .product(name: "Supervision", package: "swift-supervision"),
                .product(name: "SupervisionObserver", package: "swift-supervision"),
            ],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "supervision-bench",
            dependencies: [
                "BenchmarkSupport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Supervision", package: "swift-supervision"),
            ],
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)
