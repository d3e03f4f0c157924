# Everything that is not ours: Debian packages by pkg-config, llhttp from Debian's source package.

find_package(PkgConfig REQUIRED)
set(_st_modules libevent_core libfyaml jansson hwloc libxxhash libprotobuf-c)
pkg_check_modules(DEPS REQUIRED IMPORTED_TARGET ${_st_modules})
# Only its headers: processor/net/fetch_curl.c loads the library when it is needed.
pkg_check_modules(CURL REQUIRED "libcurl>=7.87")
# The same for triggers/kafka/kafka_library.c.
pkg_check_modules(RDKAFKA REQUIRED "rdkafka>=2.0")
if(BUILD_TESTING)
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
endif()
if(ST_JEMALLOC)
  pkg_check_modules(JEMALLOC REQUIRED IMPORTED_TARGET jemalloc)
endif()
find_path(UTHASH_INCLUDE_DIR uthash.h)
find_program(PROTOC_C protoc-c)
if(NOT PROTOC_C)
  message(FATAL_ERROR "protoc-c not found: install protobuf-c-compiler, or type 'make deps'")
endif()
if(NOT UTHASH_INCLUDE_DIR)
  message(FATAL_ERROR "uthash.h not found: install uthash-dev, or type 'make deps'")
endif()

# llhttp: Debian's node-llhttp ships generated sources, no library and no .pc file.
set(ST_LLHTTP_SOURCE_DIR "/usr/share/llhttp" CACHE PATH "llhttp's api.c, http.c and llhttp.c")
set(ST_LLHTTP_INCLUDE_DIR "/usr/share/include/llhttp" CACHE PATH "Folder of llhttp.h")
foreach(_file "${ST_LLHTTP_SOURCE_DIR}/llhttp.c" "${ST_LLHTTP_INCLUDE_DIR}/llhttp.h")
  if(NOT EXISTS "${_file}")
    message(FATAL_ERROR "${_file} not found: install node-llhttp, or type 'make deps'")
  endif()
endforeach()
add_library(llhttp STATIC "${ST_LLHTTP_SOURCE_DIR}/api.c" "${ST_LLHTTP_SOURCE_DIR}/http.c"
                          "${ST_LLHTTP_SOURCE_DIR}/llhttp.c")
target_include_directories(llhttp SYSTEM PUBLIC "${ST_LLHTTP_INCLUDE_DIR}")
target_compile_definitions(llhttp PUBLIC LLHTTP_STRICT_MODE=1) # its own default is 0
target_compile_options(llhttp PRIVATE -w -O2 ${ST_LTO_COMPILE})
target_link_libraries(llhttp PRIVATE st_instrument)
