# What people try. The build itself is Meson's (meson.build); this only finds tools, installs the missing ones by package name and
# calls them. `make help` lists the targets.

.DEFAULT_GOAL := all
.PHONY: all run run-packet test guests neutron mirror-net model sim-long kill-loops packet-kill-loops control-etcd bench check-all fuzz tidy format install deb clean help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

comma := ,
PREFIX ?= /usr/local
SECONDS ?= 60

# SAN=address (UBSan with it) or SAN=thread: a build directory of its own, by clang, so that both compilers see all code.
ifeq ($(SAN),)
BUILD := build
SETUP := --prefix $(PREFIX)
else ifeq ($(SAN),address)
BUILD := build-address
SETUP := -Db_sanitize=address,undefined -Db_lundef=false
else ifeq ($(SAN),thread)
BUILD := build-thread
SETUP := -Db_sanitize=thread -Db_lundef=false
else
$(error SAN is address or thread, not '$(SAN)')
endif
ifneq ($(SAN),)
CC := clang
endif

# Meson says much when all is well; it is kept for when it is not.
QUIETLY = out=$$($(1) 2>&1) || { printf '%s\n' "$$out"; exit 1; }

NEED_CC := links:$(CC)=$(if $(findstring clang,$(CC)),clang,gcc),libc6-dev
NEED_CONTROL := pkg:libnghttp2=libnghttp2-dev pkg:libprotobuf-c=libprotobuf-c-dev protoc-c=protobuf-c-compiler pkg:openssl=libssl-dev \
	pkg:sqlite3=libsqlite3-dev pkg:libmicrohttpd=libmicrohttpd-dev
NEED_BUILD := $(NEED_CC) meson=meson ninja=ninja-build python3=python3 pkg-config=pkg-config \
	pkg:liburing=liburing-dev pkg:jansson=libjansson-dev pkg:libxxhash=libxxhash-dev pkg:yaml-0.1=libyaml-dev pkg:zlib=zlib1g-dev $(NEED_CONTROL)
# The packet plane: tested where the machine can have it.
NEED_PACKET := $(if $(filter x86_64,$(shell uname -m)),pkg:libdpdk=libdpdk-dev ip=iproute2)
NEED_TEST := $(NEED_BUILD) $(NEED_PACKET) pkg:cmocka=libcmocka-dev nm=binutils unpacked:build-packages/usr/bin/etcd=etcd-server \
	file:/usr/lib/python3/dist-packages/grpc/__init__.py=python3-grpcio file:/usr/lib/python3/dist-packages/yaml/__init__.py=python3-yaml systemd-analyze=systemd \
	file:/usr/share/doc/python3-seccomp/copyright=python3-seccomp openssl=openssl
NPM := npm:build-packages/npm/node_modules
NEED_PEERS := $(NPM)/@grpc/grpc-js/package.json=@grpc/grpc-js@1.14.7 $(NPM)/@grpc/proto-loader/package.json=@grpc/proto-loader@0.8.1 \
	$(NPM)/.bin/buf=@bufbuild/buf@1.75.0
NEED_HOUSE := spin=spin gcc=gcc clang-format=clang-format shellcheck=shellcheck qemu-storage-daemon=qemu-system-common
NEED_SAN_address := llvm-symbolizer=llvm 'links:clang -fsanitize=address=libclang-rt-dev'
NEED_SAN_thread := llvm-symbolizer=llvm 'links:clang -fsanitize=thread=libclang-rt-dev'
NEED_FUZZ := 'links:clang=clang,libc6-dev' $(NEED_SAN_address)
NEED_RUN_PACKET := qemu-system-x86_64=qemu-system-x86 busybox=busybox-static nsenter=util-linux xz=xz-utils
NEED_BLOCKDEV := file:/usr/include/libnvme.h=libnvme-dev file:/usr/include/libdevmapper.h=libdevmapper-dev
NEED_GUESTS := $(NEED_BLOCKDEV) qemu-system-x86_64=qemu-system-x86 busybox=busybox-static mke2fs=e2fsprogs

# Programs lie deep in Meson's tree; people find them as build/NAME.
LINK = @for program in $(BUILD)/src/programs/*/*; do \
	if [ -f "$$program" ] && [ -x "$$program" ]; then ln -sfn "$${program\#$(BUILD)/}" "$(BUILD)/$${program\#\#*/}"; fi; done

# Only what the programs need: a machine that runs the demonstration needs no test library.
all: $(BUILD)/build.ninja ## build the programs as build/NAME
	@ninja -C $(BUILD) $$(ninja -C $(BUILD) -t targets all | sed -n 's,^\(src/programs/.*\): c_LINKER.*,\1,p')
	$(LINK)

$(BUILD)/build.ninja:
	@tools/need $(NEED_BUILD) $(NEED_SAN_$(SAN))
	@$(call QUIETLY,CC="$(CC)" meson setup $(BUILD) $(SETUP))

# A build directory that was made before the control daemon's libraries were here learns of them.
run: all ## build, then show three nodes and a volume over them, under ./run
	@test -e $(BUILD)/penstockd || { tools/need $(NEED_BUILD) && $(call QUIETLY,meson setup --reconfigure $(BUILD) -Dcontrol=enabled) && $(MAKE) all; }
	@tools/demo

run-packet: ## build, then show the packet plane: two virtual machines, a tagged world outside, a plane that is killed
	@tools/need $(NEED_BUILD) $(NEED_PACKET) $(NEED_RUN_PACKET)
	@test -e $(BUILD)/build.ninja || { $(call QUIETLY,meson setup $(BUILD) $(SETUP) -Dpacket=enabled); }
	@meson configure $(BUILD) | grep -q '^ *packet *enabled' || { $(call QUIETLY,meson setup --reconfigure $(BUILD) -Dpacket=enabled); }
	@ninja -C $(BUILD) src/programs/penstock-packet/penstock-packet
	@tools/run-packet $(BUILD)

# A build directory that was made before cmocka was here learns of it.
test-build: $(BUILD)/build.ninja
	@tools/need $(NEED_TEST) $(NEED_SAN_$(SAN)) $(if $(SAN),,$(NEED_HOUSE) $(NEED_PEERS))
	@test -e $(BUILD)/with-tests || { $(call QUIETLY,meson setup --reconfigure $(BUILD) -Dtests=enabled -Dcontrol=enabled $(if $(NEED_PACKET),-Dpacket=enabled)); touch $(BUILD)/with-tests; }
.PHONY: test-build

RUN_TESTS = tools/run-tests $(BUILD) $(if $(filter thread,$(SAN)),--suite threads) $(TEST_OPTIONS)

test: test-build ## run the tests; SAN=address or SAN=thread under that sanitizer
	@$(RUN_TESTS) --no-suite guests

guests: test-build ## run the tests with real Linux clients in virtual machines
	@tools/need $(NEED_GUESTS)
	@$(RUN_TESTS) --suite guests

CONTROL_PROGRAMS = $(foreach program,penstockd penstock-block penstock-bench,$(BUILD)/src/programs/$(program)/$(program)) tests/control/spdkrpc.table

neutron: test-build ## run the tests of the plugin for neutron on Debian's python3-neutron (180 packages)
	@tools/need file:/usr/lib/python3/dist-packages/neutron/__init__.py=python3-neutron
	@$(RUN_TESTS) --suite neutron

mirror-net: test-build ## long: nodes of a mirror that are killed, hung, cut, slow, full …; CASE="name…" for some
	@ninja -C $(BUILD) src/programs/penstock-block/penstock-block src/programs/penstock-bench/penstock-bench
	@python3 -B tests/mirror_net/test_mirror_net.py $(BUILD) $(or $(CASE),all)

sim-long: test-build ## long: three simulated nodes, an engine that is taken over and volumes, for COUNT=500 seeds from SEED=1
	@ninja -C $(BUILD) tests/sim/test_nodes tests/sim/test_volumes
	@$(BUILD)/tests/sim/test_nodes $(or $(SEED),1) $(or $(COUNT),500)
	@$(BUILD)/tests/sim/test_volumes $(or $(SEED),1) $(or $(COUNT),500)

# A seed of 50 kills each: half of them with planes that are units of their own.
kill-loops: test-build ## long: the plane dies at each step of each operation; it and penstockd KILLS=500 times at random, on three nodes
	@ninja -C $(BUILD) src/programs/penstockd/penstockd src/programs/penstock-block/penstock-block src/programs/penstock-bench/penstock-bench
	@python3 -B tests/control/test_plane_deaths.py $(CONTROL_PROGRAMS)
	@for seed in $$(seq 1 $$(( ($(or $(KILLS),500) + 49) / 50 ))); do \
		python3 -B tests/control/test_chaos.py $(CONTROL_PROGRAMS) 50 $$seed $$([ $$((seed % 2)) = 1 ] || echo units) || exit 1; done

packet-kill-loops: test-build ## long: the packet plane, penstockd and etcd are killed 200 times while ports are plugged and unplugged; SEED=n, MODE=processes (50 times)
	@ninja -C $(BUILD) src/programs/penstockd/penstockd src/programs/penstock-packet/penstock-packet
	@PENSTOCK_TEST_BUDGET=long PENSTOCK_ETCD=build-packages/usr/bin/etcd python3 -B tests/spp/test_kills.py \
		$(foreach program,penstockd penstock-packet,$(BUILD)/src/programs/$(program)/$(program)) $(or $(SEED),1) $(MODE)

control-etcd: test-build ## long: the control daemon's tests with the state in an etcd of which members are killed; CASE="name…" for some
	@ninja -C $(BUILD)
	@PENSTOCK_ETCD=build-packages/usr/bin/etcd python3 -B tests/control/on_etcd.py $(BUILD) . $(CASE)

model: ## long: all rows of the mirror's model by spin, deep ones for MODEL_SECONDS=900 each; CASE="word…" for some
	@tools/need spin=spin gcc=gcc,libc6-dev
	@PENSTOCK_TEST_BUDGET=long PENSTOCK_MODEL_SECONDS=$(or $(MODEL_SECONDS),900) python3 -B tests/models/check_models.py . $(CASE)

# The gRPC rows are about a peer that stands among the tests.
bench: all ## measure, print and store the figures under bench/results; ROWS="name…" for some
	@tools/need $(NEED_CONTROL) pkg:cmocka=libcmocka-dev fio=fio h2load=nghttp2-client
	@ninja -C $(BUILD) -t targets all | grep -q '^tests/support/echo_peer:' || $(call QUIETLY,meson setup --reconfigure $(BUILD) -Dtests=enabled -Dcontrol=enabled)
	@ninja -C $(BUILD) tests/support/echo_peer
	@bench/run $(ROWS)

check-all: ## long: all tests with their long budgets, clang-tidy, 5 minutes of fuzzing a target, guests
	@$(MAKE) test TEST_OPTIONS=--long
	@$(MAKE) test SAN=address
	@$(MAKE) test SAN=thread
	@$(MAKE) tidy
	@$(MAKE) fuzz SECONDS=300
	@$(MAKE) guests TEST_OPTIONS=--long
	@$(MAKE) neutron
	@$(MAKE) mirror-net

build-fuzz/build.ninja:
	@tools/need $(NEED_TEST) $(NEED_FUZZ)
	@$(call QUIETLY,CC=clang meson setup build-fuzz -Dfuzz=true -Dtests=enabled -Dcontrol=enabled -Db_sanitize=address$(comma)undefined -Db_lundef=false)

fuzz: build-fuzz/build.ninja ## fuzz each target for SECONDS=60; TARGET=name for one
	@ninja -C build-fuzz $$(ninja -C build-fuzz -t targets all | sed -n 's,^\(tests/fuzz/fuzz_[^:]*\): c_LINKER.*,\1,p')
	@tools/fuzz --seconds $(SECONDS) $(TARGET)

# On the build that clang configures; of it only what is generated is made.
tidy: ## clang-tidy on all of it; FILES="word…" for some, PART=1/8 for a part
	@tools/need clang-tidy=clang-tidy
	@$(MAKE) test-build SAN=address
	@ninja -C build-address --quiet $$(ninja -C build-address -t targets rule CUSTOM_COMMAND | grep -E '^(src|tests|api)/.*\.[ch]$$')
	@tools/tidy build-address $(PART) $(FILES)

format: ## clang-format on all of it
	@tools/need clang-format=clang-format
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

install: all ## install; PREFIX=/usr/local, DESTDIR for packagers
	@meson configure $(BUILD) --prefix "$(PREFIX)"
	@meson install -C $(BUILD) $(if $(DESTDIR),--destdir "$(DESTDIR)")

deb: ## build the Debian packages of what is committed, as build-deb/*.deb
	@tools/need $(NEED_BUILD) $(NEED_CONTROL) $(NEED_BLOCKDEV) scdoc=scdoc dh=debhelper dpkg-buildpackage=dpkg-dev lintian=lintian
	@tools/make-deb

clean: ## remove the build directories
	rm -rf build build-address build-thread build-fuzz build-deb

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile
