# Options and the compile and link flags of every target of ours (interface target st_flags).

set(_st_ci OFF)
if("$ENV{CI}" STREQUAL "true")
  set(_st_ci ON)
endif()
option(ST_WERROR "Warnings are errors (default: ON where CI=true)" ${_st_ci})
option(ST_LTO "Link-time optimisation of the stator binary" OFF)
option(ST_HARDEN "Hardening flags (need optimisation)" OFF)
option(ST_JEMALLOC "Link jemalloc into the stator binary" OFF)
option(ST_FUZZ "Build only the fuzz targets, with libFuzzer (clang)" OFF)
option(ST_COVERAGE "Instrument for gcov" OFF)
set(ST_SANITIZE "" CACHE STRING "Sanitizer: empty, asan (with UBSan) or tsan")
set_property(CACHE ST_SANITIZE PROPERTY STRINGS "" asan tsan)

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# No NDEBUG: asserts of broken invariants stay in release binaries.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(ST_CCACHE ccache)
if(ST_CCACHE AND NOT CMAKE_C_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER "${ST_CCACHE}")
endif()

include(CheckCCompilerFlag)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)
find_package(Threads REQUIRED)

add_library(st_flags INTERFACE)
target_compile_options(
  st_flags
  INTERFACE -Wall
            -Wextra
            -Wshadow
            -Wstrict-prototypes
            -Wmissing-prototypes
            -Wconversion
            -Wvla
            $<$<BOOL:${ST_WERROR}>:-Werror>)
# Empty on purpose: a source file that says "#define _GNU_SOURCE" itself repeats this one exactly.
target_compile_definitions(st_flags INTERFACE _GNU_SOURCE=)
target_include_directories(
  st_flags INTERFACE "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/runtimes/native/include"
                     "${PROJECT_BINARY_DIR}/generated")
target_link_libraries(st_flags INTERFACE Threads::Threads ${CMAKE_DL_LIBS} m)
# No --as-needed: nothing calls jemalloc by name, so the linker would drop it.
target_link_options(st_flags INTERFACE LINKER:--no-as-needed)

# Instrumentation goes to every target, handlers (shared objects) and llhttp included.
add_library(st_instrument INTERFACE)
set(_st_asan -fsanitize=address,undefined -fno-sanitize-recover=all)
if(ST_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "ST_FUZZ needs clang (libFuzzer): use the preset fuzz")
  endif()
  target_compile_options(st_instrument INTERFACE -O1 -fno-omit-frame-pointer
                                                 -fsanitize=fuzzer-no-link ${_st_asan})
  target_link_options(st_instrument INTERFACE ${_st_asan})
elseif(ST_SANITIZE STREQUAL "asan")
  target_compile_options(st_instrument INTERFACE -O1 -fno-omit-frame-pointer ${_st_asan})
  target_link_options(st_instrument INTERFACE ${_st_asan})
elseif(ST_SANITIZE STREQUAL "tsan")
  target_compile_options(st_instrument INTERFACE -O1 -fno-omit-frame-pointer -fsanitize=thread)
  target_link_options(st_instrument INTERFACE -fsanitize=thread)
elseif(NOT ST_SANITIZE STREQUAL "")
  message(FATAL_ERROR "ST_SANITIZE is '${ST_SANITIZE}': use asan, tsan or leave it empty")
endif()
if(ST_SANITIZE AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
  # gcc's flow warnings are known to be wrong in instrumented code; plain builds check them.
  target_compile_options(st_flags INTERFACE -Wno-maybe-uninitialized -Wno-stringop-overflow
                                            -Wno-stringop-truncation -Wno-format-truncation)
endif()
if(ST_COVERAGE)
  target_compile_options(st_instrument INTERFACE -O0 --coverage -fprofile-update=atomic)
  target_link_options(st_instrument INTERFACE --coverage)
endif()
target_link_libraries(st_flags INTERFACE st_instrument)

if(ST_HARDEN)
  target_compile_options(st_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
                                            -fstack-protector-strong)
  foreach(_flag -fstack-clash-protection -fcf-protection -mbranch-protection=standard)
    string(MAKE_C_IDENTIFIER "ST_HAVE${_flag}" _var)
    check_c_compiler_flag(${_flag} ${_var})
    if(${_var})
      target_compile_options(st_flags INTERFACE ${_flag})
    endif()
  endforeach()
  target_link_options(st_flags INTERFACE LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack)
endif()

# Fat objects: the stator binary is linked with LTO, the many test programs without (fast links).
set(ST_LTO_COMPILE "")
set(ST_LTO_LINK "")
if(ST_LTO AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
  set(CMAKE_REQUIRED_LINK_OPTIONS -flto=auto)
  check_c_compiler_flag("-flto=auto -ffat-lto-objects" ST_HAVE_LTO)
  unset(CMAKE_REQUIRED_LINK_OPTIONS)
  if(ST_HAVE_LTO)
    set(ST_LTO_COMPILE -flto=auto -ffat-lto-objects)
    set(ST_LTO_LINK -flto=auto -O2)
    add_link_options($<$<NOT:$<BOOL:$<TARGET_PROPERTY:ST_LTO>>>:-fno-lto>)
  endif()
endif()
